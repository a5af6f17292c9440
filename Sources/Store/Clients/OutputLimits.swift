/// Output buffer limits by class of client (`client-output-buffer-limit`).
extension StoreServer {
    func applyOutputLimit(_ client: Client) {
        let kind = client.replica != nil ? 1 : client.subscriptions != nil ? 2 : 0
        let limit = configuration.outputLimits[kind]
        client.connection.outputLimit = limit.hard > 0 ? limit.hard : .max
    }
}
