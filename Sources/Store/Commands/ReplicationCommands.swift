import RESP

/// REPLICAOF and what replicas and masters say to each other.
extension StoreServer {
    static let replicationCommands: [Command] = [
        Command(
            "REPLICAOF", arity: 3, flags: [.admin, .noScript, .stale, .noAsyncLoading], since: "5.0.0",
            syntax: "args(host-port(host port:int)|no-one(NO ONE))",
            summary: "Configures a server as replica of another, or promotes it to a master."
        ) { call in call.server.replicaOf(call) },
        Command(
            "SLAVEOF", arity: 3, flags: [.admin, .noScript, .stale, .noAsyncLoading], since: "1.0.0",
            syntax: "args(host-port(host port:int)|no-one(NO ONE))", deprecated: ("5.0.0", "`REPLICAOF`"),
            summary: "Sets a Redis server as a replica of another, or promotes it to being a master."
        ) { call in call.server.replicaOf(call) },
        Command(
            "REPLCONF", arity: -1, flags: [.admin, .noScript, .loading, .stale, .allowBusy], since: "3.0.0", isInternal: true,
            summary: "An internal command for configuring the replication stream."
        ) { call in call.server.replication.configure(call) },
        Command(
            "PSYNC", arity: -3, flags: [.admin, .noScript, .noMulti, .noAsyncLoading], since: "2.8.0",
            syntax: "replicationid offset:int",
            complexity: "", summary: "An internal command used in replication."
        ) { call in call.server.replication.synchronise(call) },
        Command(
            "SYNC", arity: 1, flags: [.admin, .noScript, .noMulti, .noAsyncLoading], since: "1.0.0", complexity: "",
            summary: "An internal command used in replication."
        ) { call in call.server.replication.synchronise(call) },
        Command(
            "ROLE", arity: 1, flags: [.noScript, .loading, .stale, .fast], categories: [.admin, .dangerous], since: "2.8.12",
            summary: "Returns the replication role."
        ) { call in call.server.replication.role(call.reply) },
        Command(
            "WAIT", arity: 3, flags: [.blocking], categories: [.connection], since: "3.0.0",
            syntax: "numreplicas:int timeout:int", tips: "request_policy:all_shards response_policy:agg_min", heading: "generic",
            summary: "Blocks until the asynchronous replication of all preceding write commands sent by the connection is completed."
        ) { call in call.server.replication.wait(call) },
        Command(
            "WAITAOF", arity: 4, flags: [.blocking, .noScript], categories: [.connection], since: "7.2.0",
            syntax: "numlocal:int numreplicas:int timeout:int", tips: "request_policy:all_shards response_policy:agg_min", heading: "generic",
            summary: "Blocks until all of the preceding write commands sent by the connection are written to the append-only file of the master and/or replicas."
        ) { call in call.server.replication.waitForDisks(call) },
        Command(
            "FAILOVER", arity: -1, flags: [.admin, .noScript, .stale], since: "6.2.0",
            syntax: "[TO target(host port:int [FORCE])] [ABORT] [TIMEOUT milliseconds:int]",
            summary: "Starts a coordinated failover from a server to one of its replicas."
        ) { call in call.server.replication.failOver(call) },
    ]

    private func replicaOf(_ call: borrowing Call) {
        if call.client.replica != nil, call.client.gate.contains(.replica) {
            return call.reply.error("ERR Command is not valid when client is a replica.")
        }
        if replication.isFailingOver { return call.reply.error("ERR REPLICAOF not allowed while failing over.") }
        if call[1].isWord("no"), call[2].isWord("one") {
            if replication.isReplica {
                replication.promote()
                logger.notice("MASTER MODE enabled (user request from 'id=\(call.client.id) addr=\(call.client.connection.peer)')")
            }
            return call.reply.ok()
        }
        guard let port = call[2].integer, port >= 0, port <= 65_535 else { return call.reply.error("ERR Invalid master port") }
        let host = call[1].text
        if let current = configuration.replicaOf, current.host.lowercased() == host.lowercased(), Int64(current.port) == port {
            return call.reply.simple("OK Already connected to specified master")
        }
        replication.follow(host: host, port: UInt16(port))
        logger.notice("REPLICAOF \(host):\(port) enabled (user request from 'id=\(call.client.id) addr=\(call.client.connection.peer)')")
        call.reply.ok()
    }
}
