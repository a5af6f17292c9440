import Configuration
import Glibc
import Reactor

extension VRRPConfiguration {
    static func read(_ file: KeepalivedConfiguration, file path: String) throws(VRRPConfigurationProblems) -> VRRPConfiguration {
        var reader = Reader(path: path)
        reader.configuration.warnings = file.warnings
        reader.read(file.statements)
        reader.checkReferences()
        guard reader.problems.isEmpty else { throw VRRPConfigurationProblems(problems: reader.problems) }
        return reader.configuration
    }

    /// The name that the kernel knows this host by.
    static func hostName() -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Walks the statements and gathers what is wrong with them.
    struct Reader {
        let path: String
        var configuration = VRRPConfiguration(routerID: VRRPConfiguration.hostName())
        var problems: [ConfigurationError] = []
        var scriptUser: ScriptCommand.User?
        var isSecurityAsked = false

        init(path: String) {
            self.path = path
            scriptUser = Reader.user("keepalived_script", group: nil)
        }

        mutating func fail(_ message: String, _ statement: KeepalivedStatement) { problems.append(statement.error(message)) }
        mutating func warn(_ message: String, _ statement: KeepalivedStatement) { configuration.warnings.append(statement.error(message)) }

        mutating func read(_ statements: [KeepalivedStatement]) {
            for statement in statements {
                switch statement.keyword {
                case "global_defs": if let block = block(of: statement) { for each in block { readGlobal(each) } }
                case "vrrp_script": readScript(statement)
                case "vrrp_sync_group": readGroup(statement)
                case "vrrp_instance": readInstance(statement)
                default: refuse(statement, knownElsewhere: Reader.unsupportedBlocks, context: "at the top level", accepted: "global_defs, vrrp_script, vrrp_sync_group, vrrp_instance, include")
                }
            }
        }

        /// Keepalived's keywords whose absence would leave something undone that the file counts on.
        private static let unsupportedBlocks: [String: String] = [
            "virtual_server": "Vigie does not balance through LVS", "virtual_server_group": "Vigie does not balance through LVS",
            "bfd_instance": "Vigie has no BFD", "vrrp_track_file": "tracking files is not supported", "track_file": "tracking files is not supported",
            "vrrp_track_process": "tracking processes is not supported", "static_ipaddress": "static addresses are not supported",
            "static_routes": "static routes are not supported", "static_rules": "static rules are not supported",
            "track_group": "track groups are not supported", "garp_group": "garp groups are not supported",
            "net_namespace": "start Vigie in the namespace instead", "net_namespace_ipvs": "Vigie does not balance through LVS",
            "instance": "pid files are named on the command line", "use_pid_dir": "pid files are named on the command line",
            "linkbeat_use_polling": "links are watched by netlink only", "linkbeat_interfaces": "links are watched by netlink only",
            "interface_up_down_delays": "delays of links are not supported",
        ]

        mutating func refuse(_ statement: KeepalivedStatement, knownElsewhere known: [String: String], context: String, accepted: String) {
            if let reason = known[statement.keyword] {
                fail("'\(statement.keyword)' is not supported: \(reason)", statement)
            } else {
                fail("unknown keyword '\(statement.keyword)' \(context); accepted: \(accepted)", statement)
            }
        }

        // MARK: global_defs

        /// Keywords that change nothing that Vigie does.
        private static let harmlessGlobals: Set<String> = [
            "process_names", "process_name", "vrrp_process_name", "checker_process_name", "bfd_process_name", "dynamic_interfaces", "vrrp_notify_priority_changes",
            "vrrp_skip_check_adv_addr", "vrrp_ipsets", "vrrp_iptables", "nftables", "nftables_priority", "nftables_counters", "nftables_ifindex",
            "checker_log_all_failures", "smtp_alert_checker", "default_interface", "max_auto_priority", "min_auto_priority_delay", "lvs_flush", "lvs_flush_onstop",
            "checker_priority", "bfd_priority", "checker_no_swap", "bfd_no_swap", "checker_cpu_affinity", "bfd_cpu_affinity", "checker_rt_priority",
            "bfd_rt_priority", "vrrp_rlimit_rttime", "checker_rlimit_rttime", "bfd_rlimit_rttime", "lvs_notify_fifo", "lvs_notify_fifo_script",
            "tmp_config_directory", "config_save_dir", "child_wait_time", "dbus_service_name", "snmp_socket",
        ]

        private static let ignoredGlobals: [String: String] = [
            "vrrp_strict": "not enforced; packets to virtual addresses are not filtered",
            "vrrp_garp_interval": "gratuitous ARPs of a burst are sent at once", "vrrp_gna_interval": "IPv6 is not supported",
            "vrrp_priority": "the process keeps its priority", "vrrp_rt_priority": "the process keeps its priority",
            "vrrp_no_swap": "memory is not locked", "vrrp_cpu_affinity": "the process keeps its processors",
            "enable_snmp_vrrp": "there is no SNMP", "enable_snmp_checker": "there is no SNMP", "enable_snmp_rfc": "there is no SNMP",
            "enable_snmp_rfcv2": "there is no SNMP", "enable_snmp_rfcv3": "there is no SNMP", "enable_traps": "there is no SNMP",
            "enable_dbus": "there is no D-Bus", "vrrp_mcast_group6": "IPv6 is not supported", "vrrp_garp_extra_if": "not sent",
        ]

        private static let unsupportedGlobals: [String: String] = [
            "notify_fifo": "use notify scripts", "notify_fifo_script": "use notify scripts", "vrrp_notify_fifo": "use notify scripts",
            "vrrp_notify_fifo_script": "use notify scripts", "lvs_sync_daemon": "Vigie does not balance through LVS",
            "startup_script": "start it before Vigie", "shutdown_script": "start it after Vigie", "disable_local_igmp": "set net.ipv4.igmp_link_local_mcast_reports instead",
        ]

        private var garpDefaults = VirtualRouterParameters(name: "", virtualRouterID: 0)
        private var versionDefault: Advert.Version { garpDefaults.version }

        private mutating func readGlobal(_ s: KeepalivedStatement) {
            switch s.keyword {
            case "notification_email": if let block = block(of: s) { configuration.mail.recipients += block.map(\.keyword) }
            case "notification_email_from": if let word = word(s) { configuration.mail.sender = word }
            case "smtp_server": readMailServer(s)
            case "smtp_helo_name": if let word = word(s) { configuration.mail.helloName = word }
            case "smtp_connect_timeout": if let time = seconds(s, 1...3600) { configuration.mail.connectTimeout = time }
            case "smtp_alert", "smtp_alert_vrrp": configuration.mail.isDefault = truth(s) ?? false
            case "no_email_faults": configuration.mail.includesFaults = false
            case "router_id": if let word = word(s) { configuration.routerID = word }
            case "script_user": scriptUser = user(s, words: s.arguments)
            case "enable_script_security": isSecurityAsked = true
            case "vrrp_version": garpDefaults.version = number(s, 2...3) == 3 ? .v3 : .v2
            case "vrrp_mcast_group4": if let group = multicast(s) { multicastDefault = group }
            case "vrrp_garp_master_delay", "vrrp_garp_master_repeat", "vrrp_garp_master_refresh", "vrrp_garp_master_refresh_repeat",
                "vrrp_garp_lower_prio_repeat", "vrrp_garp_lower_prio_delay", "vrrp_lower_prio_no_advert", "vrrp_higher_prio_send_advert":
                var defaults = garpDefaults
                readAnnouncing(s, keyword: String(s.keyword.dropFirst("vrrp_".count)), into: &defaults)
                garpDefaults = defaults
            case "vrrp_min_garp":
                if truth(s) ?? true { garpDefaults.garpRepeat = 1; garpDefaults.garpDelay = .zero }
            case "vrrp_check_unicast_src": checksUnicastDefault = true
            default:
                if Reader.harmlessGlobals.contains(s.keyword) { return }
                if let reason = Reader.ignoredGlobals[s.keyword] { return warn("'\(s.keyword)' is ignored: \(reason)", s) }
                refuse(s, knownElsewhere: Reader.unsupportedGlobals, context: "in global_defs", accepted: "notification_email, notification_email_from, smtp_server, smtp_connect_timeout, router_id, script_user, vrrp_version, ...")
            }
        }

        private var multicastDefault = Advert.multicastGroup
        private var checksUnicastDefault = false

        private mutating func readMailServer(_ s: KeepalivedStatement) {
            guard let host = s.arguments.first, s.arguments.count <= 2 else { return fail("'smtp_server' takes an address or name and perhaps a port", s) }
            configuration.mail.server = host
            guard s.arguments.count == 2 else { return }
            guard let port = UInt16(s.arguments[1]), port > 0 else { return fail("smtp_server: '\(s.arguments[1])' is no port from 1 to 65535", s) }
            configuration.mail.port = port
        }

        /// How masters announce themselves: the same keywords globally and per instance.
        /// - Returns: whether the keyword is one of them.
        @discardableResult
        private mutating func readAnnouncing(_ s: KeepalivedStatement, keyword: String, into router: inout VirtualRouterParameters) -> Bool {
            switch keyword {
            case "garp_master_delay": if let time = seconds(s, 0...86_400) { router.garpDelay = time }
            case "garp_master_repeat": if let count = number(s, 0...1000) { router.garpRepeat = count }
            case "garp_master_refresh": if let time = seconds(s, 0...86_400) { router.garpRefresh = time }
            case "garp_master_refresh_repeat": if let count = number(s, 1...1000) { router.garpRefreshRepeat = count }
            case "garp_lower_prio_repeat": if let count = number(s, 0...1000) { router.garpLowerPriorityRepeat = count }
            case "garp_lower_prio_delay": warn("'\(s.keyword)' is ignored: one burst is sent, at once", s)
            case "lower_prio_no_advert": router.answersLowerPriority = !(truth(s) ?? true)
            case "higher_prio_send_advert": router.answersHigherPriority = truth(s) ?? true
            default: return false
            }
            return true
        }

        // MARK: vrrp_script

        private mutating func readScript(_ statement: KeepalivedStatement) {
            guard let name = word(statement), let block = block(of: statement) else { return }
            if configuration.scripts.contains(where: { $0.name == name }) { return fail("vrrp_script '\(name)' is there twice", statement) }
            var commands: [ScriptCommand] = []
            let nothing = ScriptCommand(arguments: [], user: nil, location: statement.location)
            var script = ScriptConfiguration(name: name, location: statement.location, check: nothing)
            var runner = scriptUser
            for s in block {
                switch s.keyword {
                case "script":
                    if let command = command(s, hasUser: false) {
                        if let first = commands.first {
                            warn("vrrp_script '\(name)' has more than one 'script': the one of line \(first.location.line) is the check; this one is run when the check has failed, and its status does not count", s)
                        }
                        commands.append(command)
                    }
                case "interval": if let time = seconds(s, 1...86_400) { script.interval = time }
                case "timeout": if let time = seconds(s, 1...86_400) { script.timeout = time }
                case "weight": if let weight = weight(s, words: s.arguments) { script.weight = weight }
                case "rise": if let count = number(s, 1...1000) { script.rise = count }
                case "fall": if let count = number(s, 1...1000) { script.fall = count }
                case "user": runner = user(s, words: s.arguments)
                case "init_fail": script.startsDown = true
                default: refuse(s, knownElsewhere: [:], context: "in vrrp_script", accepted: "script, interval, timeout, weight, rise, fall, user, init_fail")
                }
            }
            guard let check = commands.first else { return fail("vrrp_script '\(name)' has no 'script'", statement) }
            script.check = check
            script.check.user = runner
            script.remedies = commands.dropFirst().map { ScriptCommand(arguments: $0.arguments, user: runner, location: $0.location) }
            configuration.scripts.append(script)
        }

        // MARK: vrrp_sync_group

        private mutating func readGroup(_ statement: KeepalivedStatement) {
            guard let name = word(statement), let block = block(of: statement) else { return }
            if configuration.groups.contains(where: { $0.name == name }) { return fail("vrrp_sync_group '\(name)' is there twice", statement) }
            var group = GroupConfiguration(name: name, location: statement.location)
            for s in block {
                switch s.keyword {
                case "group": if let block = self.block(of: s) { group.members += block.map(\.keyword) }
                case "smtp_alert": group.smtpAlert = truth(s) ?? true
                case "track_script": group.trackedScripts += tracked(s)
                case "track_interface": group.trackedInterfaces += tracked(s)
                case "sync_group_tracking_weight", "global_tracking": group.keepsWeights = true
                default:
                    if readNotify(s, into: &group.notify) { continue }
                    refuse(s, knownElsewhere: Reader.unsupportedTracking, context: "in vrrp_sync_group", accepted: "group, track_script, track_interface, notify, notify_master, notify_backup, notify_fault, notify_stop, smtp_alert, sync_group_tracking_weight")
                }
            }
            if group.members.isEmpty { return fail("vrrp_sync_group '\(name)' has no members", statement) }
            configuration.groups.append(group)
        }

        private static let unsupportedTracking: [String: String] = [
            "track_file": "tracking files is not supported", "track_process": "tracking processes is not supported", "track_bfd": "Vigie has no BFD",
            "notify_deleted": "there is no deleting by reload", "notify_priority_changes": "there are no notify fifos",
        ]

        private mutating func readNotify(_ s: KeepalivedStatement, into notify: inout NotifyScripts) -> Bool {
            switch s.keyword {
            case "notify_master": notify.master = command(s, hasUser: true)
            case "notify_backup": notify.backup = command(s, hasUser: true)
            case "notify_fault": notify.fault = command(s, hasUser: true)
            case "notify_stop": notify.stop = command(s, hasUser: true)
            case "notify": notify.any = command(s, hasUser: true)
            default: return false
            }
            return true
        }

        // MARK: vrrp_instance

        private static let unsupportedInstance: [String: String] = unsupportedTracking.merging([
            "use_vmac": "addresses keep the interface's own hardware address", "use_vmac_addr": "addresses keep the interface's own hardware address",
            "vmac_xmit_base": "addresses keep the interface's own hardware address", "use_ipvlan": "there are no ipvlan interfaces",
            "vrf": "VRFs are not supported", "native_ipv6": "IPv6 is not supported", "virtual_routes": "routes are not supported",
            "virtual_rules": "rules are not supported", "no_accept": "packets to virtual addresses cannot be filtered", "track_src_ip": "it is not supported",
            "unicast_fault_no_peer": "it is not supported",
        ]) { first, _ in first }

        private mutating func readInstance(_ statement: KeepalivedStatement) {
            guard let name = word(statement), let block = block(of: statement) else { return }
            if configuration.instances.contains(where: { $0.name == name }) { return fail("vrrp_instance '\(name)' is there twice", statement) }
            var router = garpDefaults
            router.name = name
            var instance = InstanceConfiguration(name: name, location: statement.location, router: router)
            instance.multicastGroup = multicastDefault
            instance.checksUnicastSource = checksUnicastDefault
            var wish = InstanceWish()
            for s in block { readInstance(s, into: &instance, wish: &wish) }
            finish(&instance, wish, statement)
        }

        /// What an instance's statements say together, and cannot be judged one by one.
        private struct InstanceWish {
            var startsAsMaster = false
            var noPreempt: KeepalivedStatement?
            var interval: (seconds: Double, statement: KeepalivedStatement)?
            var hasRouterID = false
        }

        private mutating func readInstance(_ s: KeepalivedStatement, into instance: inout InstanceConfiguration, wish: inout InstanceWish) {
            switch s.keyword {
            case "state": readState(s, &wish)
            case "interface":
                guard let name = word(s) else { return }
                if name.utf8.count > 15 { return fail("interface '\(name)': a name has at most 15 bytes", s) }
                instance.interface = name
            case "virtual_router_id":
                wish.hasRouterID = true
                if let id = number(s, 1...255) { instance.router.virtualRouterID = UInt8(id) }
            case "priority": if let value = number(s, 1...255) { instance.router.priority = UInt8(value) }
            case "advert_int": if let value = decimal(s, 0.01...255) { wish.interval = (value, s) }
            case "version": instance.router.version = number(s, 2...3) == 3 ? .v3 : .v2
            case "nopreempt": wish.noPreempt = s
            case "preempt": wish.noPreempt = nil
            case "preempt_delay": if let time = seconds(s, 0...1000) { instance.router.preemptDelay = time }
            case "down_timer_adverts": if let count = number(s, 1...100) { instance.router.downTimerAdverts = count }
            case "virtual_ipaddress": instance.addresses += addresses(s)
            case "virtual_ipaddress_excluded": instance.excludedAddresses += addresses(s)
            case "track_script": instance.trackedScripts += tracked(s)
            case "track_interface": instance.trackedInterfaces += tracked(s)
            case "dont_track_primary": instance.tracksOwnInterface = false
            case "authentication": readAuthentication(s, &instance.router)
            case "mcast_src_ip", "unicast_src_ip": if let text = word(s) { instance.sourceAddress = ipv4(text, s) }
            case "mcast_dst_ip": if let group = multicast(s) { instance.multicastGroup = group }
            case "unicast_peer": readPeers(s, &instance)
            case "unicast_ttl": if let value = number(s, 1...255) { instance.unicastTimeToLive = UInt8(value) }
            case "check_unicast_src": instance.checksUnicastSource = true
            case "old_unicast_checksum": warn("'old_unicast_checksum' is ignored: checksums are those of RFC 5798", s)
            case "smtp_alert": instance.smtpAlert = truth(s) ?? true
            case "accept", "promote_secondaries", "debug", "skip_check_adv_addr", "strict_mode": break
            case "garp_extra_if": warn("'garp_extra_if' is ignored: not sent", s)
            default:
                if readAnnouncing(s, keyword: s.keyword, into: &instance.router) { return }
                if readNotify(s, into: &instance.notify) { return }
                refuse(s, knownElsewhere: Reader.unsupportedInstance, context: "in vrrp_instance", accepted: "state, interface, virtual_router_id, priority, advert_int, nopreempt, virtual_ipaddress, track_script, authentication, smtp_alert, notify, unicast_peer, version, ...")
            }
        }

        private mutating func readState(_ s: KeepalivedStatement, _ wish: inout InstanceWish) {
            switch word(s) {
            case "MASTER": wish.startsAsMaster = true
            case "BACKUP": wish.startsAsMaster = false
            case let other?: fail("state '\(other)': accepted are MASTER and BACKUP", s)
            case nil: break
            }
        }

        private mutating func readAuthentication(_ statement: KeepalivedStatement, _ router: inout VirtualRouterParameters) {
            for s in block(of: statement) ?? [] {
                switch (s.keyword, word(s)) {
                case ("auth_type", "PASS"): break
                case ("auth_type", "AH"): fail("auth_type AH is not supported; accepted: PASS", s)
                case ("auth_type", let other?): fail("auth_type '\(other)': accepted: PASS", s)
                case ("auth_pass", let secret?):
                    if secret.utf8.count > 8 { warn("auth_pass has more than eight characters; the first eight count", s) }
                    router.password = Advert.padded(Array(secret.utf8))
                case (_, nil): break
                default: fail("unknown keyword '\(s.keyword)' in authentication; accepted: auth_type, auth_pass", s)
                }
            }
            if router.password == nil, problems.isEmpty { fail("authentication without auth_pass", statement) }
        }

        private mutating func readPeers(_ statement: KeepalivedStatement, _ instance: inout InstanceConfiguration) {
            for s in block(of: statement) ?? [] {
                if !s.arguments.isEmpty { warn("unicast_peer \(s.keyword): '\(s.arguments.joined(separator: " "))' is ignored", s) }
                if let peer = ipv4(s.keyword, s) { instance.unicastPeers.append(peer) }
            }
        }

        private mutating func finish(_ instance: inout InstanceConfiguration, _ wish: InstanceWish, _ statement: KeepalivedStatement) {
            if instance.interface.isEmpty { fail("vrrp_instance '\(instance.name)' has no 'interface'", statement) }
            if !wish.hasRouterID { fail("vrrp_instance '\(instance.name)' has no 'virtual_router_id'", statement) }
            if instance.addresses.isEmpty { fail("vrrp_instance '\(instance.name)' has no 'virtual_ipaddress'", statement) }
            if instance.addresses.count > 255 { fail("vrrp_instance '\(instance.name)' has \(instance.addresses.count) addresses; an advert holds 255", statement) }
            if let (seconds, s) = wish.interval { setInterval(seconds, s, &instance.router) }
            instance.router.startsAsMaster = wish.startsAsMaster
            if let s = wish.noPreempt {
                if wish.startsAsMaster {
                    warn("'nopreempt' does not work with 'state MASTER'; it is ignored", s)
                } else {
                    instance.router.preempts = false
                }
            }
            if instance.router.version == .v3, instance.router.password != nil {
                fail("vrrp_instance '\(instance.name)': version 3 has no authentication", statement)
            }
            instance.router.addresses = instance.addresses.map(\.address)
            configuration.instances.append(instance)
        }

        private mutating func setInterval(_ seconds: Double, _ s: KeepalivedStatement, _ router: inout VirtualRouterParameters) {
            let centiseconds = Int((seconds * 100).rounded())
            switch router.version {
            case .v3:
                if centiseconds > 4095 { fail("advert_int \(s.arguments[0]): version 3 has at most 40.95 s", s) }
                router.intervalCentiseconds = centiseconds
            case .v2:
                let whole = max(1, Int(seconds.rounded()))
                if Double(whole) != seconds { warn("advert_int \(s.arguments[0]): version 2 has whole seconds; \(whole) s is used", s) }
                router.intervalCentiseconds = whole * 100
            }
        }

        // MARK: what refers to something else

        mutating func checkReferences() {
            let instances = configuration.instances.map(\.name)
            var owner: [String: String] = [:]
            for group in configuration.groups {
                for member in group.members {
                    if !instances.contains(member) { problems.append(ConfigurationError("vrrp_sync_group '\(group.name)': there is no vrrp_instance '\(member)'", at: group.location)) }
                    if let other = owner.updateValue(group.name, forKey: member) {
                        problems.append(ConfigurationError("vrrp_instance '\(member)' is in two sync groups, '\(other)' and '\(group.name)'", at: group.location))
                    }
                }
            }
            for tracked in configuration.instances.flatMap(\.trackedScripts) + configuration.groups.flatMap(\.trackedScripts)
            where !configuration.scripts.contains(where: { $0.name == tracked.name }) {
                problems.append(ConfigurationError("track_script: there is no vrrp_script '\(tracked.name)'", at: tracked.location))
            }
            if configuration.instances.isEmpty, problems.isEmpty {
                problems.append(ConfigurationError("no vrrp_instance", at: ConfigurationLocation(file: path, line: 0)))
            }
            checkTwins()
            warnAboutWeights()
            if isSecurityAsked { checkScriptSecurity() }
            let alerts = configuration.mail.isDefault || configuration.instances.contains { $0.smtpAlert == true } || configuration.groups.contains { $0.smtpAlert == true }
            if alerts, configuration.mail.server == nil || configuration.mail.recipients.isEmpty {
                configuration.warnings.append(ConfigurationError("smtp_alert without smtp_server or notification_email: no mail is sent", at: ConfigurationLocation(file: path, line: 0)))
            }
        }

        /// Two instances that could not tell their adverts apart.
        private mutating func checkTwins() {
            for (index, instance) in configuration.instances.enumerated() {
                for earlier in configuration.instances[..<index]
                where earlier.interface == instance.interface && earlier.router.virtualRouterID == instance.router.virtualRouterID
                    && earlier.multicastGroup == instance.multicastGroup && earlier.unicastPeers.isEmpty == instance.unicastPeers.isEmpty {
                    problems.append(ConfigurationError("virtual_router_id \(instance.router.virtualRouterID) on \(instance.interface) is '\(earlier.name)' already", at: instance.location))
                }
            }
        }

        /// `enable_script_security`: what runs as root may be written by nobody else.
        private mutating func checkScriptSecurity() {
            let notify = configuration.instances.map(\.notify) + configuration.groups.map(\.notify)
            let commands = configuration.scripts.flatMap { [$0.check] + $0.remedies }
                + notify.flatMap { [$0.master, $0.backup, $0.fault, $0.stop, $0.any].compactMap(\.self) }
            for command in commands where command.user?.uid ?? geteuid() == 0 {
                if let path = Reader.unsafePart(of: command.arguments[0]) {
                    problems.append(ConfigurationError("script '\(command.arguments[0])' would run as root, and others than root can write '\(path)' (enable_script_security)", at: command.location))
                }
            }
        }

        /// The first folder or file on the way to `path` that others than root can write or own.
        static func unsafePart(of path: String) -> String? {
            var parts = path.split(separator: "/").indices.map { path.split(separator: "/")[...$0].joined(separator: "/") }.map { "/" + $0 }
            parts.insert("/", at: 0)
            return parts.first { part in
                var status = stat()
                guard stat(part, &status) == 0 else { return false }
                let isSticky = status.st_mode & UInt32(S_ISVTX) != 0 && status.st_mode & S_IFMT == S_IFDIR
                return status.st_uid != 0 || status.st_mode & (S_IWGRP | S_IWOTH) != 0 && !isSticky
            }
        }

        private mutating func warnAboutWeights() {
            for group in configuration.groups where group.members.count > 1 && !group.keepsWeights {
                for instance in configuration.instances where group.members.contains(instance.name) {
                    for tracked in instance.trackedScripts {
                        let weight = tracked.weight ?? configuration.scripts.first { $0.name == tracked.name }?.weight
                        guard let weight, weight.weight != 0 else { continue }
                        configuration.warnings.append(ConfigurationError("(\(instance.name)) ignoring tracked script \(tracked.name) with weights due to SYNC group", at: tracked.location))
                    }
                }
            }
        }
    }
}
