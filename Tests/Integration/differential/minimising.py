"""The smallest part of an episode that still differs."""

import time

from .generator import Block
from .playing import Difference, line_of
from .wire import Gone


BRACKETS = (b"MULTI", b"EXEC", b"DISCARD")


def outcome(player, episode):
    """Words for what differs when the episode is played, or None."""
    try:
        player.play(episode)
    except Difference as difference:
        return str(difference)
    except Gone as gone:
        return f"gone: {gone}\n{player.recover()}"
    return None


def minimised(player, episode, seconds):
    """(episode, words): fewer blocks for as long as something differs, and then fewer commands in what can be divided."""
    deadline = time.monotonic() + seconds
    blocks, words = list(episode.blocks), None

    def differs(candidate):
        nonlocal words
        found = outcome(player, episode.with_blocks(candidate))
        if found:
            words = found
        return found is not None

    if not differs(blocks):
        return episode, None
    size = max(1, len(blocks) // 2)
    while time.monotonic() < deadline:
        place, isSmaller = 0, False
        while place < len(blocks) and time.monotonic() < deadline:
            candidate = blocks[:place] + blocks[place + size:]
            if candidate and differs(candidate):
                blocks, isSmaller = candidate, True
            else:
                place += size
        if size == 1 and not isSmaller:
            break
        size = max(1, size // 2)
    for i, block in enumerate(blocks):
        if not block.isDivisible:
            continue
        # Mostly it is not the transaction that differs but what is in it.
        bare = Block([op for op in block.ops if op.words[0] not in BRACKETS], True)
        if 0 < len(bare.ops) < len(block.ops) and time.monotonic() < deadline and differs(blocks[:i] + [bare] + blocks[i + 1:]):
            block = blocks[i] = bare
        place = 0
        while place < len(block.ops) and time.monotonic() < deadline:
            if block.ops[place].words[0] in BRACKETS:
                place += 1
                continue
            smaller = Block(block.ops[:place] + block.ops[place + 1:], True)
            if differs(blocks[:i] + [smaller] + blocks[i + 1:]):
                block = blocks[i] = smaller
            else:
                place += 1
    # The words of the last try may be of one that did not differ in the end.
    final = episode.with_blocks(blocks)
    return final, outcome(player, final) or words


def report(episode, words):
    lines = [line_of(op)[:1000] for block in episode.blocks for op in block.ops]
    protocols = ", ".join(f"{name}: RESP{version}" for name, version in episode.protocols.items())
    return "\n".join([f"== {episode.name} ({protocols}; set-max-listpack-entries {episode.setListpackEntries})", *lines, f"-> {words}"])
