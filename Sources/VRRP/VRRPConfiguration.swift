import Configuration

/// A keepalived.conf as far as VRRP goes, checked.
///
/// What Keepalived knows and Vigie does not do is refused (where leaving it out would serve wrongly) or warned about.
public struct VRRPConfiguration: Sendable {
    /// Identifies the machine in mails; the host's name unless set.
    public internal(set) var routerID: String
    var mail = MailSettings()
    var scripts: [ScriptConfiguration] = []
    var groups: [GroupConfiguration] = []
    var instances: [InstanceConfiguration] = []
    /// What was passed over, in the order of the file.
    public internal(set) var warnings: [ConfigurationError] = []

    /// The names of the virtual routers, in the order of the file.
    public var instanceNames: [String] { instances.map(\.name) }

    /// Reads and checks a file with all that it includes.
    /// - Throws: `VRRPConfigurationProblems` with everything that is wrong.
    public static func load(path: String) throws(VRRPConfigurationProblems) -> VRRPConfiguration {
        let file: KeepalivedConfiguration
        do throws(ConfigurationError) {
            file = try KeepalivedConfiguration.load(path: path)
        } catch {
            throw VRRPConfigurationProblems(problems: [error])
        }
        return try read(file, file: path)
    }
}

/// Everything that is wrong in a keepalived.conf; prints as one `file:line: message` a line.
public struct VRRPConfigurationProblems: Error, CustomStringConvertible, Sendable {
    public let problems: [ConfigurationError]
    public var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// Where and how mails about changes of state are sent.
struct MailSettings: Equatable, Sendable {
    var recipients: [String] = []
    var sender: String?
    /// A numeric address or a name; nil sends no mail.
    var server: String?
    var port: UInt16 = 25
    var connectTimeout = Duration.seconds(30)
    /// The name given in EHLO; the host's name unless set.
    var helloName: String?
    /// What an instance or group does that has no `smtp_alert` of its own.
    var isDefault = false
    var includesFaults = true
}

/// A program with its arguments and the user that it runs as.
struct ScriptCommand: Equatable, Sendable {
    struct User: Equatable, Sendable {
        var uid: UInt32
        var gid: UInt32
    }
    var arguments: [String]
    var user: User?
    var location: ConfigurationLocation
}

/// `vrrp_script`: a check that instances track.
struct ScriptConfiguration: Equatable, Sendable {
    var name: String
    var location: ConfigurationLocation
    /// Its exit status is the verdict.
    var check: ScriptCommand
    /// Run one after the other when the check has failed; what they say does not count.
    var remedies: [ScriptCommand] = []
    var interval = Duration.seconds(1)
    /// The program is ended after this; the interval unless set.
    var timeout: Duration?
    var weight = TrackingWeight(weight: 0)
    var rise = 1
    var fall = 1
    var startsDown = false
}

/// Programs that are told of changes of state.
struct NotifyScripts: Equatable, Sendable {
    var master: ScriptCommand?
    var backup: ScriptCommand?
    var fault: ScriptCommand?
    var stop: ScriptCommand?
    var any: ScriptCommand?
}

/// `vrrp_sync_group`.
struct GroupConfiguration: Equatable, Sendable {
    var name: String
    var location: ConfigurationLocation
    var members: [String] = []
    var smtpAlert: Bool?
    var notify = NotifyScripts()
    /// Weights count although the group has several members (`sync_group_tracking_weight`).
    var keepsWeights = false
    var trackedScripts: [TrackedName] = []
    var trackedInterfaces: [TrackedName] = []
}

/// A script or an interface that is tracked, with the weight given there.
struct TrackedName: Equatable, Sendable {
    var name: String
    var weight: TrackingWeight?
    var location: ConfigurationLocation
}

/// One line of `virtual_ipaddress`.
struct VirtualAddress: Equatable, Sendable {
    var address: UInt32
    var prefixLength: UInt8 = 32
    /// The interface that gets it; the instance's own unless set.
    var device: String?
    var scope: UInt8 = 0
    var broadcast: UInt32?
    var label: String?
}

/// `vrrp_instance`.
struct InstanceConfiguration: Sendable {
    var name: String
    var location: ConfigurationLocation
    var interface = ""
    var router: VirtualRouterParameters
    var addresses: [VirtualAddress] = []
    /// Addresses that come and go with the others but are not in the adverts.
    var excludedAddresses: [VirtualAddress] = []
    var trackedScripts: [TrackedName] = []
    var trackedInterfaces: [TrackedName] = []
    var tracksOwnInterface = true
    var sourceAddress: UInt32?
    var unicastPeers: [UInt32] = []
    var unicastTimeToLive: UInt8 = 255
    var checksUnicastSource = false
    var multicastGroup = Advert.multicastGroup
    var smtpAlert: Bool?
    var notify = NotifyScripts()
}
