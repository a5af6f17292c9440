extension StoreServer {
    /// Every command of the store; each family declares its own beside the implementation.
    static let allCommands: [Command] =
        connectionCommands + clientCommands + serverCommands + latencyCommands + aclCommands + configCommands + infoCommands + commandCommands
        + debugCommands + memoryCommands + debugSubcommands
        + stringCommands + keyCommands + migrateCommands + transactionCommands + pubsubCommands
        + replicationCommands + wholeValueCommands
        + listCommands + hashCommands + setCommands
        + sortedSetCommands + sortedSetRangeCommands + sortedSetAlgebraCommands + streamCommands + functionCommands
        + persistenceCommands + clusterCommands
}
