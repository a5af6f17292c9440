// swift-tools-version: 6.1
import PackageDescription

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
    name: "vigie",
    products: [
        .executable(name: "vigie", targets: ["vigie"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        .systemLibrary(name: "CLinux"),
        .target(name: "Reactor", dependencies: ["CLinux"]),
        .target(name: "RESP", dependencies: ["Reactor"]),
        .target(name: "Configuration"),
        .target(name: "Observability", dependencies: ["Reactor", "CLinux", logging]),
        .target(name: "Store", dependencies: ["Reactor", "RESP", "Configuration", "Observability", "CLinux", logging]),
        .target(name: "Sentinel", dependencies: ["Reactor", "RESP", "Configuration", "Observability", "CLinux", logging]),
        .target(name: "Proxy", dependencies: ["Reactor", "Configuration", "Observability", "CLinux", logging]),
        .target(name: "VRRP", dependencies: ["Reactor", "Configuration", "Observability", "CLinux", logging]),
        .target(
            name: "Node",
            dependencies: ["CLinux", "Reactor", "RESP", "Configuration", "Observability", "Store", "Sentinel", "Proxy", "VRRP", logging]),
        .executableTarget(
            name: "vigie",
            dependencies: ["Node", .product(name: "ArgumentParser", package: "swift-argument-parser")]),

        .executableTarget(
            name: "open-loop", dependencies: ["CLinux", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            path: "Tests/Benchmarks/OpenLoop"),

        .testTarget(name: "ReactorTests", dependencies: ["Reactor", "CLinux"], path: "Tests/Reactor"),
        .testTarget(name: "RESPTests", dependencies: ["RESP", "Reactor"], path: "Tests/RESP"),
        .testTarget(name: "ConfigurationTests", dependencies: ["Configuration"], path: "Tests/Configuration"),
        .testTarget(name: "ObservabilityTests", dependencies: ["Observability", "Reactor", "CLinux", logging], path: "Tests/Observability"),
        .testTarget(name: "StoreTests", dependencies: ["Store", "Configuration", "Reactor", "RESP", "CLinux", logging], path: "Tests/Store"),
        .testTarget(name: "SentinelTests", dependencies: ["Sentinel", "Reactor", "RESP", "Configuration", logging], path: "Tests/Sentinel"),
        .testTarget(name: "ProxyTests", dependencies: ["Proxy", "Reactor", "Configuration", logging], path: "Tests/Proxy"),
        .testTarget(name: "VRRPTests", dependencies: ["VRRP", "Reactor", "Configuration", logging], path: "Tests/VRRP"),
        .testTarget(name: "NodeTests", dependencies: ["Node", "Store", "Reactor", "Configuration", logging], path: "Tests/Node"),
        .testTarget(
            name: "SimulationTests",
            dependencies: ["Node", "Store", "Sentinel", "Proxy", "VRRP", "Reactor", "RESP", "Configuration", logging], path: "Tests/Simulation"),
    ],
    swiftLanguageModes: [.v6]
)
