import Glibc
import Reactor

/// Where the store listens: `port`, `bind` and `unixsocket`.
extension StoreServer {
    /// Binds every address of the configuration; those that listen already are let go once the new ones are there.
    /// - Throws: `SystemError` naming the address; then everything is as before.
    func openListeners() throws(SystemError) {
        var opened: [Listener] = []
        var kept: [Listener] = []
        do throws(SystemError) {
            for (address, isOptional) in try listenAddresses() {
                if let old = listeners.first(where: { $0.address == address }) {
                    kept.append(old)
                    continue
                }
                do throws(SystemError) {
                    opened.append(try loop.listen(on: address, options: listenOptions, handler: self))
                } catch {
                    // A family that the kernel does not speak is left out always, an address that the host does not have when `-` says so.
                    let isUnknown = [EAFNOSUPPORT, EPROTONOSUPPORT, ENOPROTOOPT, ESOCKTNOSUPPORT, EPFNOSUPPORT].contains(error.code)
                    guard isUnknown || (isOptional && error.code == EADDRNOTAVAIL) else { throw error }
                }
            }
        } catch {
            for listener in opened { listener.close() }
            throw error
        }
        guard opened.count + kept.count > 0 else { throw SystemError("Configured to not listen anywhere: port \(configuration.port), bind '\(configuration.bind.joined(separator: " "))'", code: EADDRNOTAVAIL) }
        for listener in listeners where !kept.contains(where: { $0 === listener }) { listener.close() }
        listeners = kept + opened
    }

    private var listenOptions: ListenOptions {
        var options = ListenOptions()
        options.backlog = configuration.tcpBacklog
        if configuration.unixSocketPermission != 0 { options.unixMode = configuration.unixSocketPermission }
        return options
    }

    /// The addresses, and whether one that this host does not have is left out (`-` before it).
    private func listenAddresses() throws(SystemError) -> [(SocketAddress, isOptional: Bool)] {
        var addresses: [(SocketAddress, isOptional: Bool)] = []
        let port = configuration.port
        for text in port == 0 ? [] : configuration.bind {
            let isOptional = text.hasPrefix("-")
            switch isOptional ? String(text.dropFirst()) : text {
            case "*": addresses.append((.anyIPv4(port: port), isOptional))
            case "::*": addresses.append((.ipv6(high: 0, low: 0, port: port, scope: 0), isOptional))
            case let host:
                guard let address = SocketAddress(numeric: host == "localhost" ? "127.0.0.1" : host, port: port) else {
                    throw SystemError("bind '\(text)' (accepted are numeric addresses, *, ::*, each with - before it)", code: EINVAL)
                }
                addresses.append((address, isOptional))
            }
        }
        if !configuration.unixSocket.isEmpty {
            addresses.append((.unix(configuration.inDirectory(configuration.unixSocket)), false))
        }
        return addresses
    }
}
