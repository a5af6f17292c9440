/// What Sentinel reads from a store's INFO.
struct InfoReport: Equatable {
    var runID: String?
    var isMaster: Bool?
    /// Replicas that a master names.
    var replicas: [Endpoint] = []
    var masterHost: String?
    var masterPort: UInt16?
    var masterLinkIsUp = false
    /// Seconds since the replica lost its master; nil when it has it.
    var masterLinkDownSeconds: Int64?
    var priority: Int?
    var replicationOffset: UInt64?
    var isAnnounced = true
    var uptimeSeconds: Int64?

    /// Lines that can't be read are passed over: INFO has many that are none of our business.
    init(_ text: String) {
        for line in text.split(whereSeparator: { $0 == "\n" || $0 == "\r\n" || $0 == "\r" }) {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = String(line[line.index(after: colon)...])
            switch line[..<colon] {
            case "run_id": runID = isRunID(value) ? value : nil
            case "role": isMaster = value == "master" ? true : value == "slave" ? false : nil
            case "master_host": masterHost = value
            case "master_port": masterPort = UInt16(value)
            case "master_link_status": masterLinkIsUp = value == "up"
            case "master_link_down_since_seconds": masterLinkDownSeconds = Int64(value).flatMap { $0 >= 0 ? $0 : nil }
            case "slave_priority": priority = Int(value)
            case "slave_repl_offset": replicationOffset = UInt64(value)
            case "replica_announced": isAnnounced = value != "0"
            case "uptime_in_seconds": uptimeSeconds = Int64(value)
            case let name where name.hasPrefix("slave") && name.dropFirst(5).allSatisfy(\.isNumber) && name.count > 5:
                if let replica = InfoReport.replica(value) { replicas.append(replica) }
            default: break
            }
        }
    }

    /// `ip=192.168.0.5,port=6379,state=online,offset=1,lag=0`
    private static func replica(_ text: String) -> Endpoint? {
        var host: String?
        var port: UInt16?
        for field in text.split(separator: ",") {
            if field.hasPrefix("ip=") { host = String(field.dropFirst(3)) }
            if field.hasPrefix("port=") { port = UInt16(field.dropFirst(5)) }
        }
        guard let host, let port, port > 0 else { return nil }
        return Endpoint(host: host, port: port)
    }
}
