"""Plays an episode on both servers, and finds the smallest part of it that still differs."""

import random
import time

from harness import encode

from .checksum import crc64
from .families.server import DEFAULTS
from .known import is_known
from .state import compare_state
from .wire import Gone, parse, parse_all


class Difference(Exception):
    """What differed, in words."""


def shown(value, limit=700):
    """A typed value as a person reads it."""
    kind, payload = value
    if isinstance(payload, list):
        text = kind + "[" + ", ".join(shown(item, 200) for item in payload[:40]) + (", ..." if len(payload) > 40 else "") + "]"
    else:
        text = f"{kind}{payload!r}" if payload is not None else f"{kind}nil"
    return text if len(text) <= limit else text[:limit] + "..."


def quoted(word):
    """A word as redis-cli takes it."""
    if isinstance(word, tuple):
        return f"<id of {word[1]}>"
    if word and all(33 <= byte < 127 and byte not in b"\"'\\" for byte in word):
        return word.decode()
    return '"' + "".join(f"\\x{byte:02x}" if byte < 32 or byte > 126 else {34: '\\"', 92: "\\\\"}.get(byte, chr(byte)) for byte in word) + '"'


def line_of(op):
    words = " ".join(quoted(word) for word in op.words)
    extra = f"    [{op.action} {op.arguments or ''}]" if op.action else ""
    return f"{op.connection}: {words}{extra}"


class Player:
    """`sides` are ours and the real one."""

    def __init__(self, ours, real):
        self.sides = (ours, real)
        self.commands = 0
        self.known = {}

    def both(self, act):
        return tuple(act(side) for side in self.sides)

    def reset(self, protocols):
        """Both servers as after a start, with one connection per protocol in `protocols`, by name."""
        for side in self.sides:
            side.close_all()
            side.ask("CONFIG", "SET", *[str(word) for pair in DEFAULTS.items() for word in pair])
            side.ask("SELECT", "0")
            side.ask("FLUSHALL")
            for name, protocol in protocols.items():
                side.open(name, protocol)
        self.both(lambda side: side.events())

    def play(self, episode):
        """Raises Difference."""
        self.reset(episode.protocols)
        self.sides[0].ask("CONFIG", "SET", "set-max-listpack-entries", str(episode.setListpackEntries))
        (self.play_steps if episode.isStepwise else self.play_stream)(episode)
        self.compare_events()
        for side in self.sides:
            side.close_all()
        found = compare_state(*self.sides)
        if found:
            raise Difference("the data sets differ: " + found)

    def compare_events(self):
        ours, real = self.both(lambda side: side.events())
        if ours == real:
            return
        ours, real = ([(m[1][2][1], m[1][3][1]) for m in parse_all(raw)] for raw in (ours, real))
        for i in range(max(len(ours), len(real))):
            a, b = (events[i] if i < len(events) else None for events in (ours, real))
            if a != b:
                raise Difference(f"notification {i}: ours {a}, real {b}\n  ours: {ours[max(0, i - 4):i + 6]}\n  real: {real[max(0, i - 4):i + 6]}")

    # -- one connection

    def play_stream(self, episode):
        """All of it over connection a, in as few round trips as there are actions that need an answer."""
        pending = []
        for block in episode.blocks:
            memory = {}
            for op in block.ops:
                if op.action:
                    self.flush(pending)
                    ours, real = self.both(lambda side: self.act(side, op))
                    self.check(op, ours, real, memory)
                else:
                    pending.append((op, memory))
            if len(pending) > 150:
                self.flush(pending)
        self.flush(pending)

    def flush(self, pending):
        if not pending:
            return
        self.commands += len(pending)
        requests = [encode(*op.words) for op, _ in pending]
        marks = self.both(lambda side: side.begin("a", requests))
        ours, real = (side.finish("a", mark) for side, mark in zip(self.sides, marks))
        if ours != real:
            ours, real = parse_all(ours), parse_all(real)
            if len(ours) != len(real):
                raise Difference(f"{len(ours)} replies of ours, {len(real)} of the real one to {len(pending)} commands")
            queued = []
            for (op, memory), a, b in zip(pending, ours, real):
                self.check_queued(op, a, b, memory, queued)
        pending.clear()

    def check_queued(self, op, ours, real, memory, queued):
        """The elements of EXEC's reply are compared as their commands say."""
        if ours == real == ("+", b"QUEUED"):
            queued.append((op, memory))
            return
        name = op.words[0].upper()
        if name == b"EXEC" and ours[0] == real[0] == "*" and ours[1] and real[1] and len(ours[1]) == len(real[1]) == len(queued):
            for (inner, remembered), a, b in zip(queued, ours[1], real[1]):
                self.check(inner, a, b, remembered)
            queued.clear()
            return
        if name in (b"EXEC", b"DISCARD") or name == b"MULTI" and real[0] == "+":
            queued.clear()
        self.check(op, ours, real, memory)

    def check(self, op, ours, real, memory):
        if op.how(ours, real, memory):
            return
        reason = is_known(op, ours, real)
        if reason:
            self.known[reason] = self.known.get(reason, 0) + 1
            return
        payload = f"\n  payload: {self.payload!r}" if op.action == "restore" else ""
        raise Difference(f"{line_of(op)}{payload}\n  ours: {shown(ours)}\n  real: {shown(real)}")

    # -- several connections

    def play_steps(self, episode):
        """One command after the other, each when the one before has had all its consequences."""
        for block in episode.blocks:
            for op in block.ops:
                self.commands += 1
                if op.action == "close":
                    self.both(lambda side: side.open(op.connection, episode.protocols[op.connection]))
                elif op.action == "sleep":
                    time.sleep(0.03)
                else:
                    self.both(lambda side: side.send(op.connection, side.encoded(op.words)))
                self.listen(op)

    def listen(self, op):
        """Compares what all connections have received."""
        deadline = time.monotonic() + 1.0
        ours, real = {}, {}
        while True:
            for side, heard in zip(self.sides, (ours, real)):
                side.settle()
                for name, data in side.heard().items():
                    heard[name] = heard.get(name, b"") + data
            if ours == real:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        for name in sorted(ours.keys() | real.keys()):
            a, b = ours.get(name, b""), real.get(name, b"")
            if a != b:
                raise Difference(f"{line_of(op)}\n  what {name} hears: ours {a!r}\n  what {name} hears: real {b!r}")

    # -- actions

    def act(self, side, op):
        return getattr(self, "act_" + op.action)(side, op)

    def one(self, side, *words):
        self.commands += 1
        mark = side.begin("a", [side.encoded(list(words))])
        raw = side.finish("a", mark)
        return parse(raw)[0]

    def act_scan(self, side, op):
        """A whole iteration: the elements without repetitions, pairs in one."""
        words = list(op.words)
        place = 1 if words[0].upper() == b"SCAN" else 2
        isPaired = words[0].upper() in (b"HSCAN", b"ZSCAN")
        found = {}
        for _ in range(10000):
            reply = self.one(side, *words)
            if reply[0] != "*":
                return reply
            cursor, elements = reply[1]
            items = elements[1]
            if isPaired:
                items = [("pair", list(pair)) for pair in zip(items[::2], items[1::2])]
            for item in items:
                found[repr(item)] = item
            if cursor[1] == b"0":
                return ("*", [found[key] for key in sorted(found)])
            words[place] = cursor[1]
        return ("-", b"the scan does not end")

    def act_restore(self, side, op):
        """DUMP by both, and then RESTORE of the other's, or of a damaged one of the real server's; replies, and what it became."""
        ours, real = self.sides
        if side is ours:
            self.dumps = (self.one(ours, b"DUMP", op.words[0]), self.one(real, b"DUMP", op.words[0]))
        arguments = op.arguments
        dumps = self.dumps
        if dumps[0][1] is None or dumps[1][1] is None:
            return ("*", [("nil", None)])
        payload = dumps[1 if side is ours else 0][1]
        if arguments["damage"] is not None:
            payload = damaged(dumps[1][1], arguments["damage"])
        target = arguments["target"]
        self.payload = payload
        return self.one(side, b"RESTORE", target, arguments["ttl"], payload, *arguments["options"])


def damaged(payload, seed):
    """A dump with a few bytes changed; the checksum is made right again, mostly."""
    rng = random.Random(seed)
    data = bytearray(payload[:-10])
    # A compact sorted set whose scores are no numbers or not in order is refused here; Redis takes it, and never sees its members again.
    # So it is with a stream whose entries are not in order, or not as many as it says.
    if data[0] in (12, 15, 17, 19):
        return payload[:-1] + bytes([payload[-1] ^ 1])
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        if not data:
            break
        how = rng.randrange(4)
        place = rng.randrange(max(1, len(data)))
        if how == 0:
            data[place] = rng.randrange(256)
        elif how == 1:
            data[place] ^= 1 << rng.randrange(8)
        elif how == 2:
            del data[place:place + rng.choice([1, 1, 2, 8])]
        else:
            data[place:place] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 1, 2])))
    # Modules are not ours, and what becomes a stream is one by accident.
    if data and data[0] in (6, 7, 15, 19, 20, 21):
        data[0] = payload[0]
    # Not another version: 7.2 reads a later one than 7.0.
    data += payload[-10:-8]
    if rng.random() < 0.1:
        return bytes(data) + rng.choice([bytes(8), payload[-8:]])
    if rng.random() < 0.05:
        return bytes(data)[:rng.randrange(12)]
    return bytes(data) + crc64(bytes(data)).to_bytes(8, "little")
