/// How a health check ended, in HAProxy's terms.
public struct CheckResult: Sendable, Equatable {
    /// The status with HAProxy's numbers for `show servers state` (`srv_check_status`).
    public enum Status: Int, Sendable {
        /// Configured, and none has finished yet.
        case initial = 1
        case socketError = 4
        case layer4OK = 6, layer4Timeout = 7, layer4Connection = 8
        case layer7Timeout = 12, layer7Response = 13, layer7OK = 15

        /// The abbreviation in the statistics.
        public var code: String {
            switch self {
            case .initial: "INI"
            case .socketError: "SOCKERR"
            case .layer4OK: "L4OK"
            case .layer4Timeout: "L4TOUT"
            case .layer4Connection: "L4CON"
            case .layer7Timeout: "L7TOUT"
            case .layer7Response: "L7RSP"
            case .layer7OK: "L7OK"
            }
        }

        /// The words in logs and statistics.
        public var text: String {
            switch self {
            case .initial: "Initializing"
            case .socketError: "Socket error"
            case .layer4OK: "Layer4 check passed"
            case .layer4Timeout: "Layer4 timeout"
            case .layer4Connection: "Layer4 connection problem"
            case .layer7Timeout: "Layer7 timeout"
            case .layer7Response: "Layer7 invalid response"
            case .layer7OK: "Layer7 check passed"
            }
        }

        public var isPass: Bool { self == .layer4OK || self == .layer7OK }
    }

    public var status: Status
    /// What the check has to say beyond its status: the step that failed, the errno in words.
    public var information: String

    public init(_ status: Status, _ information: String = "") {
        self.status = status
        self.information = information
    }
}
