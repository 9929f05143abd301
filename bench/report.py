"""Reports of a run: the table on the terminal, the picture, and `bench/RESULTS.md`."""

import datetime
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from project.processes import ROOT
from tests.services import program

from .bars import added_p99, bars, frame_cost
from .growth import Grown
from .picture import Panel, picture
from .scenarios import Measured
from .table import as_markdown, as_text, bar_cells, comparison, growth_cells

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
PICTURE = HERE / "results.svg"
# The load of the minute before; installations add to it.
BUSY_LOAD = 1.0
BUSY_WORDS = ": the machine had other work, and no number here is a fair one"
LIBRARIES = ("Django", "django-ninja", "uvicorn", "uvloop", "httptools", "aiohttp", "pydantic")


@dataclass(slots=True)
class Run:
    """All that a run found out. `absent` says of a system why it is not there."""

    titles: Mapping[str, str]
    found: dict[str, Measured] = field(default_factory=dict)
    growth: list[Grown] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def show(run: Run) -> str:
    """The tables for a terminal."""
    parts = []
    if run.found:
        parts.append(as_text(comparison(run.found, run.titles)))
    if run.growth:
        parts.append(as_text(growth_cells(run.growth)))
    parts.append(as_text(bar_cells(bars(run.found, run.growth))))
    parts += [f"{run.titles[name]}: absent: {why}" for name, why in run.absent.items()]
    return "\n\n".join(parts)


def write(run: Run, about: Sequence[tuple[str, str]]) -> None:
    """Writes RESULTS.md, with the `facts` from the start of the run, and the picture beside it."""
    PICTURE.write_text(draw(run))
    RESULTS.write_text(markdown(run, about))


def draw(run: Run) -> str:
    """Draws CPU per request, added latency at 8 connections, and CPU per frame."""
    names = [name for name in run.found if name != "direct"]

    def panel(title: str, values: Mapping[str, float | None]) -> Panel:
        known = [(run.titles[name], value) for name, value in values.items() if value]
        return Panel(title, known)

    panels = [
        panel("CPU per request, µs", {name: run.found[name].cpu_us for name in names}),
        panel("added p99 at 8 connections, ms", {n: added_p99(run.found, n) for n in names}),
        panel("CPU per stream frame, µs", {name: frame_cost(run.found[name]) for name in names}),
    ]
    return picture([one for one in panels if one.bars], ours=run.titles.get("ours", ""))


def markdown(run: Run, about: Sequence[tuple[str, str]]) -> str:
    """The page of results."""
    parts = [
        "# Results\n\nWritten by `make bench`, all in one run. [How it is measured](README.md)."
    ]
    parts.append("\n".join(f"- {name}: {value}" for name, value in about))
    parts.append(f"![CPU and latency of the systems]({PICTURE.name})")
    parts.append(as_markdown(comparison(run.found, run.titles)))
    for name, why in run.absent.items():
        parts.append(f"{run.titles[name]} is absent: `{' '.join(why.split())[:300]}`")
    parts.append(f"## The bars\n\n{as_markdown(bar_cells(bars(run.found, run.growth)))}")
    if run.growth:
        parts.append(f"## As it grows\n\n{as_markdown(growth_cells(run.growth))}")
    return "\n\n".join(parts) + "\n"


def facts() -> list[tuple[str, str]]:
    """Returns date, commit, machine, its other load, and versions."""
    load = os.getloadavg()[0]
    is_busy = load > BUSY_LOAD
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    programs = {
        "nginx": ["/usr/sbin/nginx", "-v"],
        "wrk": ["wrk", "-v"],
        "Node": ["node", "--version"],
        "PostgreSQL": [program("postgres", package="postgresql"), "--version"],
        "Redis": ["redis-server", "--version"],
    }
    others = ", ".join(f"{name} {said(*command)}" for name, command in programs.items())
    kernel = ".".join(platform.release().split(".")[:2])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        ("date", f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"),
        ("commit", commit()),
        ("machine", f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {kernel}"),
        ("load average before", f"{load:.1f}{BUSY_WORDS if is_busy else ''}"),
        ("versions", f"Python {platform.python_version()}, {libraries}"),
        ("around it", others),
    ]


def commit() -> str:
    """The commit that was measured, and whether the tree differs from it."""
    name = git("rev-parse", "--short=12", "HEAD")
    written = [f":!bench/{path.name}" for path in (RESULTS, PICTURE)]
    changes = git("status", "--porcelain", "--untracked-files=no", "--", *written)
    return (name or "unknown") + (" with changes" if changes else "")


def git(*arguments: str) -> str:
    """Returns the output of git; empty outside a repository."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def processor() -> str:
    """The name of the processor."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.machine()


def said(*command: str) -> str:
    """Returns the first version number in a program's output."""
    if shutil.which(command[0]) is None:
        return "absent"
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", outcome.stdout + outcome.stderr)
    return found[0] if found else "unknown"
