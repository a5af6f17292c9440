extension StoreServer {
    /// Every command of the store; each family declares its own beside the implementation.
    static let allCommands: [Command] =
        connectionCommands + clientCommands + serverCommands + configCommands + infoCommands + commandCommands + debugCommands + memoryCommands
        + stringCommands + keyCommands + transactionCommands + pubsubCommands
        + replicationCommands + wholeValueCommands
        + listCommands + hashCommands + setCommands
        + sortedSetCommands + sortedSetRangeCommands + sortedSetAlgebraCommands + persistenceCommands
}
