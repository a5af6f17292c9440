"""The families of commands. Each is a list of (weight, function); the function takes a Generator and returns the words of one
command, an Op, a list of Ops that belong together, or a Block."""

from . import hashes, keys, lists, server, sets, sorted_sets, sorting, streams, strings

FAMILIES = {
    "strings": strings.COMMANDS,
    "lists": lists.COMMANDS,
    "hashes": hashes.COMMANDS,
    "sets": sets.COMMANDS,
    "zsets": sorted_sets.COMMANDS,
    "streams": streams.COMMANDS,
    "keys": keys.COMMANDS,
    "sorting": sorting.COMMANDS,
    "server": server.COMMANDS,
}
