"""The tables in replies/: reading them, and asking two servers the same (replies/README.md has the notation)."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from .resp import RawClient, ServerClosed, parse

STEP = re.compile(r"^(?:(?P<connection>[a-h])(?P<how>:|>>|<<|\.\.)\s*)?(?P<loose>~2|~|%|\?)?\s*(?P<rest>.*)$")


@dataclass
class Step:
    line: int
    text: str
    connection: str = "a"
    how: str = ":"
    loose: str = ""
    words: list = field(default_factory=list)


@dataclass
class Case:
    file: str
    name: str
    steps: list = field(default_factory=list)

    def __str__(self):
        return f"{Path(self.file).stem}: {self.name}"


def split(text):
    """redis-cli's words: blanks separate, "..." takes escapes, '...' is literal."""
    words, position = [], 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        word = bytearray()
        while position < len(text) and not text[position].isspace():
            char = text[position]
            if char == '"':
                position += 1
                while text[position] != '"':
                    if text[position] == "\\":
                        position += 1
                        if text[position] == "x":
                            word.append(int(text[position + 1:position + 3], 16))
                            position += 3
                            continue
                        word += {"n": b"\n", "r": b"\r", "t": b"\t"}.get(text[position], text[position].encode())
                    else:
                        word += text[position].encode()
                    position += 1
            elif char == "\\" and position + 1 < len(text) and text[position + 1] == "\\":
                word += b"\\"
                position += 1
            else:
                word += char.encode()
            position += 1
        words.append(bytes(word))
    return words


def read_cases(file):
    cases = []
    for number, line in enumerate(Path(file).read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("== "):
            cases.append(Case(str(file), line[3:]))
            continue
        found = STEP.match(line)
        cases[-1].steps.append(Step(number, line, found["connection"] or "a", found["how"] or ":",
                                    found["loose"] or "", split(found["rest"])))
    return cases


class Asked:
    """One server being asked a case: its connections, made when first named."""

    def __init__(self, server, protocol):
        self.server, self.protocol, self.connections = server, protocol, {}

    def connection(self, name):
        if name not in self.connections:
            client = self.server.raw(timeout=2.0)
            if self.protocol == 3:
                client.call("HELLO", "3")
            self.connections[name] = client
        return self.connections[name]

    def do(self, step):
        """The raw reply to one step, or words for what happened in its place."""
        try:
            client = self.connection(step.connection)
            if step.how == "..":
                return b"(silence)" if client.silent(0.05) else b"(something came)"
            if step.how == "<<":
                return client.read()
            if step.words[0] == b"raw":
                client.send_raw(step.words[1])
            else:
                client.send(*step.words)
            if step.how == ">>":
                return b"(sent)"
            reply = client.read()
            if step.words[0] == b"raw" and reply[:1] == b"-" and b"Protocol error" in reply:
                reply += b" (closed)" if client.closed(1.0) else b" (still open)"
            return reply
        except TimeoutError:
            self.connections.pop(step.connection).close()
            return b"(no reply)"
        except (ServerClosed, ConnectionError) as error:
            self.connections.pop(step.connection, None)
            return b"(closed)"

    def close(self):
        for client in self.connections.values():
            client.close()


def alike(step, one, other):
    """Whether two replies are the same, as far as the step demands."""
    if one == other:
        return True
    if one[:1] != other[:1] or one[:1] in b"-(":
        return False
    if step.loose == "?":
        return True
    if step.loose in ("~", "~2"):
        heads = one.split(b"\r\n", 1)[0], other.split(b"\r\n", 1)[0]
        return heads[0] == heads[1] and _sorted(parse(one), step.loose) == _sorted(parse(other), step.loose)
    if step.loose == "%":
        first, second = int(one[1:]), int(other[1:])
        return min(first, second) > 0 and abs(first - second) <= max(2, 150 if first > 10000 else 0, first // 50)
    return False


def _sorted(value, how):
    if not isinstance(value, list):
        return value
    items = [_sorted(item, how) for item in value]
    if how == "~2" and not any(isinstance(item, (tuple, list)) for item in items):
        items = list(zip(items[::2], items[1::2]))
    return sorted(items, key=repr)


def compare(case, ours, real, protocol):
    """Asks both; returns a line for each reply that differs."""
    differences = []
    one, other = Asked(ours, protocol), Asked(real, protocol)
    for asked in (one, other):
        with asked.server.raw() as client:
            assert client.call("FLUSHALL") == b"+OK\r\n"
    try:
        for step in case.steps:
            if step.words and step.words[0] == b"sleep":
                time.sleep(float(step.words[1]))
                continue
            expected, got = other.do(step), one.do(step)
            if not alike(step, got, expected):
                differences.append(f"{Path(case.file).name}:{step.line}: {step.text}\n"
                                   f"    ours {got[:600]!r}\n    real {expected[:600]!r}")
    finally:
        one.close()
        other.close()
    return differences
