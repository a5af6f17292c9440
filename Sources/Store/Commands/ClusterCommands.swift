/// What clients of a Redis Cluster ask. There is no cluster here, as in a Redis with `cluster-enabled no`, and that is the answer.
extension StoreServer {
    static let clusterCommands: [Command] = [
        Command(
            "CLUSTER", arity: -2, since: "3.0.0", heading: "cluster", complexity: "Depends on subcommand.",
            summary: "A container for Redis Cluster commands."
        ) { call in call.clusterIsDisabled() },
        Command(
            "READONLY", arity: 1, flags: [.loading, .stale, .fast], categories: [.connection], since: "3.0.0", heading: "cluster",
            summary: "Enables read-only queries for a connection to a Redis Cluster replica node."
        ) { call in call.clusterIsDisabled() },
        Command(
            "READWRITE", arity: 1, flags: [.loading, .stale, .fast], categories: [.connection], since: "3.0.0", heading: "cluster",
            summary: "Enables read-write queries for a connection to a Redis Cluster replica node."
        ) { call in call.clusterIsDisabled() },
        Command(
            "ASKING", arity: 1, flags: [.fast], categories: [.connection], since: "3.0.0", heading: "cluster",
            summary: "Signals that a cluster client is following an -ASK redirect."
        ) { call in call.clusterIsDisabled() },
    ]
}

extension Call {
    fileprivate func clusterIsDisabled() { reply.error("ERR This instance has cluster support disabled") }
}
