"""The differences that stay, because Redis 7.2 differs there from the 7.0.15 that is compared with. Nothing else may stand here."""

from .comparing import same_scores

# (reason, predicate over op, ours, real)
KNOWN = [
    ("ZRANK and ZREVRANK take WITHSCORE (7.2)",
     lambda op, ours, real: op.words[0].upper() in (b"ZRANK", b"ZREVRANK") and len(op.words) > 3 and real[0] == "-"
     and real[1].startswith(b"ERR wrong number of arguments")),
    ("small sets are listpacks (7.2)",
     lambda op, ours, real: [word.upper() for word in op.words[:2]] == [b"OBJECT", b"ENCODING"] and ours == ("$", b"listpack")
     and real == ("$", b"hashtable")),
    ("short lists are listpacks (7.2)",
     lambda op, ours, real: [word.upper() for word in op.words[:2]] == [b"OBJECT", b"ENCODING"] and ours == ("$", b"listpack")
     and real == ("$", b"quicklist")),
    ("a time-out beyond what 64 bits count is out of range (7.2); 7.0 calls it negative",
     lambda op, ours, real: op.words[0].upper().startswith(b"B") and real[0] == "-" and ours == ("-", b"ERR timeout is out of range")),
    ("XREADGROUP and XREAD say which of them is unbalanced (7.2)",
     lambda op, ours, real: real[0] == "-" and real[1].startswith(b"ERR Unbalanced XREAD list") and ours[0] == "-" and ours[1].startswith(b"ERR Unbalanced '")),
    ("scores are written with the fewest digits (7.2)",
     lambda op, ours, real: op.words[0].upper().lstrip(b"B")[:1] == b"Z" and same_scores(ours, real)),
]


def is_known(op, ours, real):
    """The reason why this difference may be, or None."""
    for reason, predicate in KNOWN:
        if predicate(op, ours, real):
            return reason
    return None
