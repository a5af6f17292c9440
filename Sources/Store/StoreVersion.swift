/// What the store says it is: Redis's version for those who decide by it, and its own.
public enum StoreVersion {
    /// The Redis whose replies and formats the store follows.
    public static let redis = "7.2.4"
    public static let vigie = "0.1.0"
}
