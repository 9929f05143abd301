"""`python -m bench`, the command of `make bench`."""

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

from .growth import NAMES, grow, started
from .install import CannotInstall
from .peers import PEERS
from .processes import LOAD_CORE, CannotStart
from .report import RESULTS, Run, facts, show, write
from .scenarios import QUICK, SCENARIOS, Effort, measure
from .systems import Bare, Direct, Ours, System
from .upstream import Upstream, upstream

SYSTEMS: tuple[System, ...] = (Direct(), Bare(), Ours(), *PEERS)
TITLES = {system.name: system.title for system in SYSTEMS}
say = partial(print, end=" ", flush=True)


def main() -> int:
    """Runs the selected measurements and reports them; the exit code does not depend on speed."""
    arguments = parse(sys.argv[1:])
    effort = QUICK if arguments.quick else Effort()
    run = Run(TITLES)
    about = facts() if arguments.write else []
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, interrupt)
    try:
        install(arguments.only, run)
        prepare()
        with (
            tempfile.TemporaryDirectory(prefix="llm-bench-") as name,
            upstream(directory_in(Path(name), "upstream")) as server,
        ):
            measure_all(arguments, server, Path(name), effort, run)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 1
    except CannotStart as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"\n{show(run)}")
    if arguments.write:
        write(run, about)
        print(f"\nWritten: {RESULTS}")
    return 0


def install(chosen: frozenset[str], run: Run) -> None:
    """Installs the chosen peers; those that are not to be had are noted."""
    for peer in PEERS:
        if peer.name in chosen and not peer.package.is_installed:
            say(f"installing {peer.title} …")
            try:
                peer.package.install()
                print("done")
            except CannotInstall as error:
                run.absent[peer.name] = str(error)
                print(f"not to be had: {error}")


def prepare() -> None:
    """Puts this process on the core of the load, with room for its connections. Raises
    CannotStart where a program is missing."""
    for program in ("wrk", "taskset"):
        if shutil.which(program) is None:
            raise CannotStart(f"{program} is not installed; scripts/bench.sh installs it")
    os.sched_setaffinity(0, {LOAD_CORE})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))


def measure_all(
    arguments: argparse.Namespace, server: Upstream, base: Path, effort: Effort, run: Run
) -> None:
    """One system at a time, then ours as it grows."""
    chosen: frozenset[str] = arguments.scenario
    for system in SYSTEMS:
        if system.name in arguments.only - run.absent.keys() and chosen - {"growth"}:
            begun = time.monotonic()
            say(f"{system.title} …")
            try:
                with started(system, server, base) as running:
                    run.found[system.name] = measure(running, chosen, effort, say)
            except (CannotStart, OSError) as error:
                run.absent[system.name] = str(error)
                say(f"cannot be measured: {error}")
            print(f"({time.monotonic() - begun:.0f} s)")
    if "growth" in chosen and "ours" in arguments.only:
        say("growth …")
        try:
            for case in grow(server, base, arguments.case, effort, say):
                run.growth.append(case)
        except CannotStart as error:
            say(f"not to the end: {error}")
        print()


def directory_in(base: Path, name: str) -> Path:
    """A new directory below `base`."""
    directory = base / name
    directory.mkdir()
    return directory


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    systems = tuple(TITLES)
    parser.add_argument(
        "--only",
        type=names(systems),
        default=frozenset(systems),
        help=f"systems, separated by commas; of {', '.join(systems)}",
    )
    parser.add_argument(
        "--scenario",
        type=names(SCENARIOS),
        default=frozenset(SCENARIOS),
        help=f"scenarios, separated by commas; of {', '.join(SCENARIOS)}",
    )
    parser.add_argument(
        "--case",
        type=names(NAMES),
        default=frozenset(NAMES),
        help=f"cases of growth, separated by commas; of {', '.join(NAMES)}",
    )
    parser.add_argument("--quick", action="store_true", help="a short run, for a first look")
    parser.add_argument(
        "--write", action="store_true", help=f"write {RESULTS.name} and the picture"
    )
    return parser.parse_args(arguments)


def names(known: tuple[str, ...]) -> Callable[[str], frozenset[str]]:
    """A type of argument: some of the known names."""

    def read(text: str) -> frozenset[str]:
        asked = frozenset(text.split(","))
        if unknown := asked - set(known):
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}"
            )
        return asked

    return read


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Ends the bench; its servers end with it."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
