"""The platform of the article in network namespaces, and what faults do to it.

Six hosts (two proxies, three Redis hosts, and the client's) on one bridge, from the files in configs/article. Each host
runs Debian's programs or Vigie. A client writes through the virtual address while one thing is broken; printed are the
longest time without an acknowledged write and the acknowledged writes that the surviving master does not hold.

    make lab                                   every fault, for Vigie and for Debian
    make lab FAULTS=killed,frozen
    make lab LAB="--hosts debian"              Debian only
    make lab LAB="--hosts vigie --set redis-02=debian --set vrrp=debian"
    make lab LAB="--shell --hosts vigie"       bring it up and wait; prints how to enter a host
"""

import argparse
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Integration"))

from faults import FAULTS, Result, strike  # noqa: E402
from harness import REPOSITORY, Network  # noqa: E402
from installation import KINDS, Choice, Installation  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(prog="make lab", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", default="all", metavar="NAME,...",
                        help="which faults: " + ", ".join(fault.name for fault in FAULTS))
    parser.add_argument("--hosts", default="vigie,debian", metavar="KIND,...",
                        help="the platforms compared, each of one kind: " + ", ".join(KINDS) + " (vigie-run: one process per box)")
    parser.add_argument("--set", action="append", default=[], metavar="WHAT=KIND",
                        help="another kind for a host, a role (store, sentinel, proxy, vrrp) or HOST/ROLE")
    for role in ("redis", "store", "sentinel", "proxy", "vrrp"):
        parser.add_argument(f"--{role}", choices=KINDS, help=f"the same as --set {role}=KIND")
    parser.add_argument("--host", action="append", default=[], metavar="HOST=KIND", help="the same as --set")
    parser.add_argument("--tuned", action="store_true", help="shorten every timer that the four files have")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each fault")
    parser.add_argument("--json", default=str(REPOSITORY / ".build" / "lab" / "results.json"), help="where the figures go")
    parser.add_argument("--logs", default=str(REPOSITORY / ".build" / "lab" / "logs"), help="where the hosts' logs go")
    parser.add_argument("--shell", action="store_true", help="bring the first platform up, and wait for Ctrl-C")
    return parser.parse_args()


def chosen_faults(names):
    if names in ("all", ""):
        return FAULTS
    known = {fault.name: fault for fault in FAULTS}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        sys.exit(f"unknown fault {', '.join(unknown)}; accepted: {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def chosen_platforms(options):
    """[(name, Choice)]; the name tells the platforms apart in the table."""
    settings = options.set + options.host
    settings += [f"{role}={getattr(options, role)}" for role in ("redis", "store", "sentinel", "proxy", "vrrp")
                 if getattr(options, role)]
    platforms = []
    for kind in options.hosts.split(","):
        if kind not in KINDS:
            sys.exit(f"--hosts {kind}: accepted are {', '.join(KINDS)}")
        choice = Choice(kind)
        try:
            for setting in settings:
                choice.set(*setting.split("=", 1))
        except (ValueError, TypeError) as error:
            sys.exit(f"--set: {error}")
        platforms.append((" ".join([kind, *settings]), choice))
    return platforms


def shown_time(result):
    if result.out_of_service is None:
        return f"for ever ({result.observed:.0f} s and counting)"
    return "none" if result.out_of_service < 0.05 else f"{result.out_of_service:.2f} s"


def shown_loss(result):
    if result.lost is None:
        return "?"
    return f"{result.lost} of {result.acknowledged}"


def print_table(results, faults, platforms, tuned):
    says = {fault.name: fault.says for fault in faults}
    width = max(len(text) for text in says.values())
    names = [name for name, _ in platforms]
    column = max(36, *(len(name) + 2 for name in names))
    print(f"\n{'fault' + (' (timers tuned)' if tuned else ''):{width}}", *(f"| {name:{column}}" for name in names))
    print("-" * width, *("|" + "-" * (column + 1) for _ in names))
    for fault in faults:
        runs = {name: [r for r in results if r.fault == fault.name and r.platform == name] for name in names}
        for index in range(max(map(len, runs.values()), default=0)):
            cells = []
            for name in names:
                if index < len(runs[name]):
                    result = runs[name][index]
                    cells.append(f"{shown_time(result)}, lost {shown_loss(result)}"
                                 + (" (!)" if result.problems else ""))
                else:
                    cells.append("")
            print(f"{says[fault.name] if index == 0 else '':{width}}", *(f"| {cell:{column}}" for cell in cells))
    for result in results:
        for problem in result.problems:
            print(f"(!) {result.platform}, {result.fault}: {problem}")


def write_json(path, results, options):
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"tuned": options.tuned, "results": [asdict(result) for result in results]}, indent=1))


def wait_in_shell(platform):
    print("up. To enter a host:")
    for name, host in platform.hosts.items():
        print(f"  {name:11} {' '.join(host.command('bash'))}")
    print("Ctrl-C ends it.")
    while True:
        time.sleep(60)


def main():
    options = arguments()
    if os.geteuid() != 0:
        sys.exit("the lab makes network namespaces: run it as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Network.sweep()
    faults, platforms = chosen_faults(options.faults), chosen_platforms(options)
    if options.shell:
        with Installation(platforms[0][1], options.tuned) as platform:
            wait_in_shell(platform)
    results = []
    for fault in faults:
        for name, choice in platforms:
            for run in range(options.repeat):
                print(f"{fault.name}: {name} ...", end=" ", flush=True)
                keep = Path(options.logs) / f"{fault.name}-{name.replace(' ', '_').replace('/', '.')}"
                keep.mkdir(parents=True, exist_ok=True)
                try:
                    with Installation(choice, options.tuned, keep) as platform:
                        result = strike(fault, platform, name)
                except (AssertionError, RuntimeError, OSError) as error:
                    result = Result(fault.name, name, problems=[f"did not run: {error}"])
                    (keep / "traceback").write_text(traceback.format_exc())
                results.append(result)
                print(f"out of service {shown_time(result)}, lost {shown_loss(result)}, {result.mails} mails", flush=True)
                write_json(options.json, results, options)
    print_table(results, faults, platforms, options.tuned)
    print(f"\nfigures in {options.json}, logs in {options.logs}")
    return 1 if any(result.problems for result in results) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped")
        sys.exit(130)
