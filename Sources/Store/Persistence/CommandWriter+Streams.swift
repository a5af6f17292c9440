import RESP

/// How a stream is written as commands: its entries, then its counters, then its groups with what is pending in them.
extension CommandWriter {
    func write(_ stream: Stream, _ key: Argument) {
        let state = stream.state.pointee
        if state.count > 0 {
            stream.forEach(from: .zero, to: .max) { entry in
                add("XADD")
                add(key)
                add(entry.id)
                entry.forEach { value in value.withText(add) }
                emit()
                return true
            }
        } else {
            // There is no other command that makes an empty stream without making anything else: one entry that goes at once.
            add("XADD")
            add(key)
            add("MAXLEN")
            add("0")
            add("0-1")
            add("x")
            add("y")
            emit()
        }
        add("XSETID")
        add(key)
        add(state.lastID)
        add("ENTRIESADDED")
        add(unsigned: state.entriesAdded)
        add("MAXDELETEDID")
        add(state.maxDeletedID)
        emit()
        stream.forEachGroup { write($0, key) }
    }

    private func write(_ group: StreamGroup, _ key: Argument) {
        add("XGROUP")
        add("CREATE")
        add(key)
        add(group.name)
        add(group.state.pointee.lastID)
        add("ENTRIESREAD")
        add(group.state.pointee.entriesRead)
        emit()
        group.forEachConsumer { consumer in
            add("XGROUP")
            add("CREATECONSUMER")
            add(key)
            add(group.name)
            add(consumer.name)
            emit()
            consumer.pending.forEach { id, pointer in
                let delivery = Delivery(pointer).state.pointee
                add("XCLAIM")
                add(key)
                add(group.name)
                add(consumer.name)
                add("0")
                add(id)
                add("TIME")
                add(delivery.time)
                add("RETRYCOUNT")
                add(unsigned: delivery.count)
                add("JUSTID")
                add("FORCE")
                emit()
            }
        }
    }

    private func add(_ id: StreamID) { id.withText { add($0) } }
    private func add(unsigned number: UInt64) { add(Array("\(number)".utf8)) }
}
