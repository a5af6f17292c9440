import RESP

/// Libraries of functions: what can be done with them as long as none can be run. A library that comes from a master or from an
/// append-only file is kept and passed on; a client's is refused, for nobody could say whether it is any good.
extension StoreServer {
    static let functionCommands: [Command] = [
        Command(
            container: "FUNCTION", since: "7.0.0", heading: "scripting", summary: "A container for function commands.",
            subcommands: [
                Command(
                    "LOAD", arity: -3, flags: [.write, .denyOOM, .noScript], categories: [.scripting], since: "7.0.0",
                    syntax: "[REPLACE] function-code", tips: "request_policy:all_shards response_policy:all_succeeded",
                    complexity: "O(1) (considering compilation time is redundant)", summary: "Creates a library."
                ) { call in
                    guard call.server.isApplyingMasterStream else { return call.server.refuseFunctions(call) }
                    call.server.functions.keep(call[call.count - 1].bytes)
                    call.server.noteFunctions()
                    call.server.dirty += 1
                    call.reply.bulk(FunctionLibraries.name(of: call[call.count - 1].bytes) ?? [])
                },
                Command(
                    "RESTORE", arity: -3, flags: [.write, .denyOOM, .noScript], categories: [.scripting], since: "7.0.0",
                    syntax: "serialized-value [policy(FLUSH|APPEND|REPLACE)]", tips: "request_policy:all_shards response_policy:all_succeeded",
                    complexity: "O(N) where N is the number of functions on the payload", summary: "Restores all libraries from a payload."
                ) { call in
                    guard call.server.isApplyingMasterStream else { return call.server.refuseFunctions(call) }
                    guard let codes = FunctionLibraries.read(call[2], server: call.server) else { return call.reply.error("ERR DUMP payload version or checksum are wrong") }
                    if call.count > 3, call[3].isWord("flush") { call.server.functions.removeAll() }
                    for code in codes { call.server.functions.keep(code) }
                    call.server.noteFunctions()
                    call.server.dirty += 1
                    call.reply.ok()
                },
                Command(
                    "DUMP", arity: 2, flags: [.noScript], categories: [.scripting], since: "7.0.0",
                    complexity: "O(N) where N is the number of functions", summary: "Dumps all libraries into a serialized binary payload."
                ) { call in call.reply.bulk(call.server.functions.dump(compresses: call.server.configuration.compressesSnapshots)) },
                Command(
                    "DELETE", arity: 3, flags: [.write, .noScript], categories: [.scripting], since: "7.0.0",
                    syntax: "library-name", tips: "request_policy:all_shards response_policy:all_succeeded",
                    summary: "Deletes a library and its functions."
                ) { call in
                    guard call.server.functions.remove(named: call[2].bytes) else { return call.reply.error("ERR Library not found") }
                    call.server.dirty += 1
                    call.reply.ok()
                },
                Command(
                    "FLUSH", arity: -2, flags: [.write, .noScript], categories: [.scripting], since: "7.0.0",
                    syntax: "[async(ASYNC|SYNC)]", tips: "request_policy:all_shards response_policy:all_succeeded",
                    complexity: "O(N) where N is the number of functions deleted", summary: "Deletes all libraries and functions."
                ) { call in
                    guard call.count == 2 || (call.count == 3 && (call[2].isWord("sync") || call[2].isWord("async"))) else {
                        return call.reply.error("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
                    }
                    call.server.functions.removeAll()
                    call.server.dirty += 1
                    call.reply.ok()
                },
                help(
                    "FUNCTION", since: "7.0.0", categories: [.scripting],
                    [
                        "LOAD [REPLACE] <FUNCTION CODE>", "    Functions cannot be run by this server: libraries come from a master or from files only.",
                        "DELETE <LIBRARY NAME>", "    Delete the given library.", "FLUSH [ASYNC|SYNC]", "    Delete all the libraries.", "DUMP",
                        "    Return a serialized payload representing the current libraries.", "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
                        "    As LOAD.",
                    ]),
            ])
    ]

    private func refuseFunctions(_ call: borrowing Call) {
        call.reply.error("ERR Functions cannot be run by this server yet: libraries of a master or of a file are kept, a client's are not taken")
    }
}
