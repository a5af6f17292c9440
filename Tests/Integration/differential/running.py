"""The two servers, and runs of many episodes."""

import os
import time
from dataclasses import dataclass, field

from harness import Processes, free_port, vigie_role

from .episodes import make_session, make_stream
from .families import FAMILIES
from .minimising import minimised, outcome, report
from .playing import Player
from .wire import Side, wait_for_port

# Steps of several connections take many round trips each.
SESSIONS_EVERY = 5
OPTIONS = ["--save", "", "--notify-keyspace-events", "KEA", "--sanitize-dump-payload", "yes", "--rdbcompression", "no",
           "--enable-debug-command", "yes"]


class Pair(Player):
    """A player with the processes behind it; `recover` starts what died."""

    def __init__(self, directory, ours_options=()):
        self.processes = Processes(directory)
        self.ours_options = list(ours_options)
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.running = {}
        # The order of ALPHA is that of the bytes.
        os.environ["LC_ALL"] = "C"
        super().__init__(*[self.start(name) for name in ("ours", "real")])

    def start(self, name):
        program = vigie_role("store") if name == "ours" else ["redis-server"]
        options = OPTIONS + (self.ours_options if name == "ours" else [])
        folder = self.directory / name
        folder.mkdir(exist_ok=True)
        port = free_port()
        process = self.processes.start([*program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), *options], name=name)
        self.running[name] = process
        wait_for_port(port)
        side = Side(name, port)
        # A key whose time is over goes when it is asked for, on both sides.
        side.ask("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        return side

    def recover(self):
        """Starts what died, and connects anew. Returns the end of the log of what died."""
        sides, log = [], ""
        for side in self.sides:
            # A crash may still be writing its backtrace.
            deadline = time.monotonic() + 8
            while self.running[side.name].alive() and not side.answers() and time.monotonic() < deadline:
                time.sleep(0.05)
            if not self.running[side.name].alive():
                log += self.running[side.name].log_text()[-9000:]
            try:
                side.end()
            except OSError:
                pass
            if self.running[side.name].alive():
                try:
                    sides.append(Side(side.name, side.port))
                    continue
                except Exception:
                    self.running[side.name].kill()
            sides.append(self.start(side.name))
        self.sides = tuple(sides)
        return log

    def end(self):
        for side in self.sides:
            side.end()
        self.processes.end()


@dataclass
class Summary:
    commands: int = 0
    episodes: int = 0
    seconds: float = 0
    known: dict = field(default_factory=dict)
    failures: list = field(default_factory=list)
    # What differed once and not when it was played again: a matter of the moment (a key that lives for a millisecond).
    unsteady: list = field(default_factory=list)

    def __str__(self):
        known = "".join(f"\n  {count} x {reason}" for reason, count in sorted(self.known.items()))
        return f"{self.commands} commands in {self.episodes} episodes, {self.seconds:.1f} s, {len(self.failures)} differ, {len(self.unsteady)} did once{known}"


def run(pair, seed, count, families=None, failures_max=1, minimise_seconds=60.0, seconds_max=None, say=None):
    """Plays episodes from `seed` on until `count` commands were sent to each server."""
    names = [name for name in families or [*FAMILIES, "sessions"]]
    streams = [name for name in names if name != "sessions"]
    summary = Summary()
    began, pair.commands, pair.known = time.monotonic(), 0, summary.known
    number = seed
    while pair.commands < count and len(summary.failures) < failures_max:
        if seconds_max and time.monotonic() - began > seconds_max:
            break
        isSession = "sessions" in names and (not streams or number % SESSIONS_EVERY == 0)
        episode = make_session(number) if isSession else make_stream(number, streams)
        found = outcome(pair, episode)
        if found:
            sent = pair.commands
            smaller, words = minimised(pair, episode, minimise_seconds)
            pair.commands = sent
            text = report(smaller, words) if words else f"== {episode.name} differed once and not again\n-> {found}"
            (summary.failures if words else summary.unsteady).append(text)
            if say:
                say(text)
        number += 1
        summary.episodes += 1
    summary.commands, summary.seconds = pair.commands, time.monotonic() - began
    return summary
