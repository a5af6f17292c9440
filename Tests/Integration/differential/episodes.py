"""Episodes: sequences of blocks made from a seed."""

import random
from dataclasses import dataclass

from .families import FAMILIES
from .families.lists import BLOCKING
from .families.sessions import SESSIONS, step_block
from .generator import Block, Generator, Op

STREAM_COMMANDS = 800
STEPS = 45
# What a transaction may hold besides the chosen families.
TRANSACTIONAL = BLOCKING + [(3, lambda g: ["SELECT", g.db]), (1, lambda g: ["MULTI"]), (1, lambda g: ["WATCH", g.s]), (1, lambda g: [b"NOSUCH"])]


@dataclass
class Episode:
    name: str
    blocks: list
    protocols: dict
    isStepwise: bool = False
    # Set to 0 our sets have the encodings of 7.0.
    setListpackEntries: int = 0

    def commands(self):
        return sum(len(block.ops) for block in self.blocks)

    def with_blocks(self, blocks):
        return Episode(self.name, blocks, self.protocols, self.isStepwise, self.setListpackEntries)


class Chooser:
    """Draws from weighted functions."""

    def __init__(self, families):
        self.functions = [function for family in families for _, function in family]
        self.weights = [weight for family in families for weight, _ in family]
        self.total = [sum(self.weights[:i + 1]) for i in range(len(self.weights))]

    def draw(self, g):
        made = g.rng.choices(self.functions, cum_weights=self.total)[0](g)
        if isinstance(made, Block):
            return made.ops
        if isinstance(made, Op):
            return [made]
        if made and isinstance(made[0], Op):
            return made
        return [Op(made)]


def make_stream(seed, names):
    """Commands of the families over one connection, some of them in transactions."""
    rng = random.Random(f"stream {seed}")
    # Few families at a time meet the same keys more often.
    chosen = rng.sample(names, min(len(names), rng.choice([1, 2, 3, len(names)])))
    g = Generator(rng, mayOverflow="sorting" not in chosen)
    chooser = Chooser([FAMILIES[name] for name in chosen])
    inner = Chooser([FAMILIES[name] for name in chosen] + ([TRANSACTIONAL] if len(chosen) > 1 else []))
    blocks, count = [], 0
    while count < STREAM_COMMANDS:
        if rng.random() < 0.03:
            block = _transaction(g, inner)
        else:
            ops = chooser.draw(g)
            # A cursor out of range leaves the same trace in Redis as a number does (see Generator).
            if "sorting" in chosen and str(ops[0].words[0]).endswith("SCAN"):
                continue
            block = Block([g.finished(op, spoils=True) for op in ops])
        blocks.append(block)
        count += len(block.ops)
    return Episode(f"stream {seed}", blocks, {"a": rng.choice([2, 3])}, setListpackEntries=rng.choice([0, 0, 128]))


def _transaction(g, chooser):
    ops = [Op([b"WATCH", g.any])] if g.chance(0.3) else []
    if ops and g.chance(0.3):
        ops += [Op(["SET", g.any, g.value])]
    ops.append(Op([b"MULTI"]))
    for _ in range(g.rng.randint(0, 8)):
        # A whole SCAN needs its own round trips; behind an early EXEC a blocking command would wait.
        ops += [op for op in chooser.draw(g)
                if not op.action and op.words[0] not in ("EXEC", "DISCARD", "SCAN", "HSCAN", "SSCAN", "ZSCAN")]
    ops.append(Op([b"EXEC" if g.chance(0.85) else b"DISCARD"]))
    return Block([g.finished(op, spoils=op.words[0] not in (b"MULTI", b"EXEC", b"DISCARD")) for op in ops], isDivisible=True)


def make_session(seed):
    """Several connections, step by step: what waits, watches and listens."""
    rng = random.Random(f"session {seed}")
    g = Generator(rng)
    names = "abcd"[:rng.randint(2, 4)]
    chooser = Chooser([rng.choice(SESSIONS)])
    blocks = [step_block(g, names, chooser) for _ in range(STEPS)]
    return Episode(f"session {seed}", blocks, {name: rng.choice([2, 3]) for name in names}, isStepwise=True,
                   setListpackEntries=rng.choice([0, 128]))
