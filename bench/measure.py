"""CPU time and memory of all processes of a session, from /proc; percentiles."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Stat:
    """Counters from `/proc/PID/stat`; `ticks` is the user and system time of the process and of its
    ended children, in clock ticks."""

    pid: int
    session: int
    ticks: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in milliseconds."""

    p50: float
    p95: float
    p99: float

    def over(self, floor: "Latency") -> "Latency":
        """Returns the difference to `floor`."""
        return Latency(self.p50 - floor.p50, self.p95 - floor.p95, self.p99 - floor.p99)


def parse_stat(text: str) -> Stat:
    """Reads a line of `/proc/PID/stat`. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html

    The name, in parentheses, may itself hold blanks and parentheses."""
    pid, _, rest = text.partition(" (")
    fields = rest[rest.rindex(")") + 2 :].split()
    return Stat(pid=int(pid), session=int(fields[3]), ticks=sum(map(int, fields[11:15])))


def processes(session: int) -> Iterator[Stat]:
    """All processes of the session that `session` leads, at this moment."""
    for directory in PROC.iterdir():
        if not directory.name.isdigit():
            continue
        try:
            stat = parse_stat((directory / "stat").read_text())
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if stat.session == session:
            yield stat


def cpu_seconds(session: int) -> float:
    """User and system time of the session so far."""
    return sum(stat.ticks for stat in processes(session)) / TICKS_PER_SECOND


def resident_bytes(status: str) -> int:
    """Returns VmRSS from `/proc/PID/status`; 0 if there is none, as for a process that is
    ending."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def memory_mb(session: int) -> float:
    """Resident memory of all processes of the session, in MB (10^6 bytes)."""
    total = 0
    for stat in processes(session):
        try:
            total += resident_bytes((PROC / str(stat.pid) / "status").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total / 1e6


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed (nearest rank)."""
    if not ordered:
        return math.nan
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def latency(milliseconds: Sequence[float]) -> Latency:
    """The three percentiles of a sample in any order."""
    ordered = sorted(milliseconds)
    return Latency(*(percentile(ordered, percent) for percent in (50, 95, 99)))
