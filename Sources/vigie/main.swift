import Logging
import Reactor
import Store

let loop = EpollLoop()
let configuration = StoreConfiguration()
configuration.port = UInt16(CommandLine.arguments.last!)!
let node = StoreNode(loop: loop, configuration: configuration, logger: Logger(label: "store"))
try node.start()
loop.run()
