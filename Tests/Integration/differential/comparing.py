"""When two replies count as the same. Each function takes (ours, real, memory), typed values as wire.parse makes them.

`memory` is a dictionary of one block of commands: what an earlier reply of that block has shown, by side.
"""

OURS, REAL = 0, 1


def exact(ours, real, memory):
    return ours == real


def score_text(value):
    """A double as 7.2 writes it: the fewest digits that mean it. 7.0 writes seventeen."""
    if value != value or value in (float("inf"), float("-inf")):
        return {True: "inf", False: "-inf"}.get(value > 0, "nan")
    if abs(value) <= 1 << 62 and value == int(value):
        return str(int(value)) if value or str(value)[0] != "-" else "-0"
    mantissa, _, exponent = f"{value!r}".lower().partition("e")
    sign = "-" if mantissa[0] == "-" else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) - len(fraction)
    stripped = digits.rstrip("0")
    power += len(digits) - len(stripped)
    digits = stripped
    high = power + len(digits) - 1
    if power >= 0 and abs(high) < len(digits) + 7:
        return sign + digits + "0" * power
    if power < 0 and (power > -7 or abs(high) < 4):
        if high >= 0:
            return sign + digits[:high + 1] + "." + digits[high + 1:]
        return sign + "0." + "0" * (-high - 1) + digits
    tail = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'-' if high < 0 else '+'}{abs(high)}"


def same_scores(ours, real):
    """Equal but for how doubles are written."""
    if ours == real:
        return True
    if ours[0] != real[0]:
        return False
    a, b = ours[1], real[1]
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_scores, a, b))
    if ours[0] not in "$," or not isinstance(a, bytes) or not isinstance(b, bytes):
        return False
    try:
        value = float(b)
    except ValueError:
        return False
    return b"%.17g" % value == b and score_text(value).encode() == a


def _frozen(value):
    kind, payload = value
    return (kind, tuple(map(_frozen, payload)) if isinstance(payload, list) else payload)


def _bag(items):
    return sorted(map(repr, map(_frozen, items)))


def unordered(ours, real, memory):
    """The same elements in any order."""
    if ours == real:
        return True
    if ours[0] != real[0] or not isinstance(ours[1], list) or not isinstance(real[1], list):
        return False
    return _bag(ours[1]) == _bag(real[1])


def _text(item):
    return item[1].split(b"\0")[0] if isinstance(item[1], bytes) else item[1]


def collated(ours, real, memory):
    """The same elements, in an order that looks at what is before a zero byte only, as strcoll does."""
    if ours == real:
        return True
    if ours[0] != real[0] or not isinstance(ours[1], list) or not isinstance(real[1], list):
        return False
    # Of equal ones LIMIT may leave others.
    return [*map(_text, ours[1])] == [*map(_text, real[1])]


def pairs(ours, real, memory):
    """A flat array or a map, whose pairs may come in any order."""
    if ours == real:
        return True
    if ours[0] != real[0] or not isinstance(ours[1], list) or not isinstance(real[1], list):
        return False
    if len(ours[1]) != len(real[1]) or len(ours[1]) % 2:
        return False
    if ours[1] and isinstance(ours[1][0][1], list):
        return _bag(ours[1]) == _bag(real[1])
    return _bag([("", list(pair)) for pair in zip(ours[1][::2], ours[1][1::2])]) == \
        _bag([("", list(pair)) for pair in zip(real[1][::2], real[1][1::2])])


def near(tolerance):
    """Numbers that differ by little, as times do."""
    def compare(ours, real, memory):
        if ours == real:
            return True
        if ours[0] != ":" or real[0] != ":":
            return False
        return ours[1] >= 0 and real[1] >= 0 and abs(ours[1] - real[1]) <= tolerance
    return compare


def same_kind(ours, real, memory):
    """Both an error with the same text, or both no error and of the same kind."""
    if ours[0] == "-" or real[0] == "-":
        return ours == real
    return ours[0] == real[0] and (ours[1] is None) == (real[1] is None)


def same_shape(ours, real, memory):
    """As many elements of the same kinds."""
    if not isinstance(ours[1], list) or not isinstance(real[1], list):
        return same_kind(ours, real, memory)
    return ours[0] == real[0] and len(ours[1]) == len(real[1]) and \
        all(same_shape(a, b, memory) for a, b in zip(ours[1], real[1]))


def remembered(ours, real, memory):
    """What a random command of the same block draws from; in any order."""
    memory["whole"] = (ours, real)
    return unordered(ours, real, memory) or pairs(ours, real, memory)


def _members(reply):
    """The elements drawn, whatever the reply's form."""
    if reply[1] is None:
        return []
    if not isinstance(reply[1], list):
        return [reply]
    return reply[1]


def drawn(step=1, distinct=False):
    """Random elements: as many on both sides, each of them one of those remembered; `step` 2 when values follow them."""
    def compare(ours, real, memory):
        if not same_shape(ours, real, memory):
            return False
        if ours[0] == "-":
            return True
        if "whole" not in memory:
            return True
        for side, reply in ((OURS, ours), (REAL, real)):
            whole = memory["whole"][side]
            if not isinstance(whole[1], list):
                continue
            elements = _members(reply)
            if step == 2 and elements and isinstance(elements[0][1], list):
                elements = [part for element in elements for part in element[1]]
            allowed = set()
            flat = whole[1]
            if step == 2:
                if flat and isinstance(flat[0][1], list):
                    flat = [part for element in flat for part in element[1]]
                allowed = {(a[1], b[1]) for a, b in zip(flat[::2], flat[1::2])}
                found = [(a[1], b[1]) for a, b in zip(elements[::2], elements[1::2])]
            else:
                allowed = {item[1] for item in flat}
                found = [item[1] for item in elements]
            if any(item not in allowed for item in found):
                return False
            if distinct and len(set(found)) != len(found):
                return False
        return True
    return compare


# Ours is no radix tree; a consumer's last success came with 7.2.
_OTHERWISE_IN_STREAMS = [("$", b"radix-tree-nodes"), ("$", b"active-time"), ("$", b"inactive")]
_MOMENT_MIN = 1_000_000_000_000


def of_stream(value, isDated=False):
    """A reply of XINFO STREAM without what may differ; moments only if `isDated`."""
    kind, payload = value
    if not isinstance(payload, list):
        return "moment" if kind == ":" and payload > _MOMENT_MIN and not isDated else value
    items, skips = [], False
    for item in payload:
        if not skips and item not in _OTHERWISE_IN_STREAMS:
            items.append(of_stream(item, isDated))
        skips = not skips and item in _OTHERWISE_IN_STREAMS
    return (kind, items)


def about_stream(ours, real, memory):
    return ours == real or of_stream(ours) == of_stream(real)
