"""The table: one row for each number, one column for each system; as text and as Markdown."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .bars import Bar, frame_cost
from .growth import Grown
from .measure import Latency
from .scenarios import CONNECTIONS, RATE, Measured

NOTHING = "–"
Cell = Callable[[Measured, Measured], str]


@dataclass(frozen=True, slots=True)
class Row:
    """A number: its name, and its text for a system beside the direct call (None: not run)."""

    title: str
    cell: Cell


def number(value: float | None) -> str:
    """Three digits that count, thousands apart."""
    if value is None or math.isnan(value):
        return NOTHING
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.2f}"


def latencies(value: Latency | None) -> str:
    """p50, p95 and p99."""
    if value is None:
        return NOTHING
    return " / ".join(number(part) for part in (value.p50, value.p95, value.p99))


def added(value: Latency | None, direct: Latency | None, *, is_direct: bool) -> str:
    """Returns the cost in addition to the direct call; for the direct call, its total."""
    if value is None or is_direct:
        return latencies(value)
    return NOTHING if direct is None else latencies(value.over(direct))


def rows() -> list[Row]:
    """All rows, in the order in which they are read."""

    def at(connections: int) -> Cell:
        def cell(one: Measured, direct: Measured) -> str:
            mine, floor = (
                closed.latency if (closed := measured.plain.get(connections)) else None
                for measured in (one, direct)
            )
            return added(mine, floor, is_direct=one is direct)

        return cell

    def memory(moment: str) -> Row:
        return Row(f"memory {moment}, MB", lambda one, _: number(one.memory.get(moment)))

    def at_rate(one: Measured, direct: Measured) -> str:
        if one.rate is None:
            return NOTHING
        if not one.rate.is_held:
            return f"not held: {one.rate.answered} of {one.rate.sent}"
        floor = direct.rate.latency if direct.rate else None
        return added(one.rate.latency, floor, is_direct=one is direct)

    return [
        Row("CPU per request, µs", lambda one, _: number(one.cpu_us)),
        Row("requests per second, one core", lambda one, _: number(saturation(one))),
        *(
            Row(f"added ms, {count} connection{'s' * (count > 1)}", at(count))
            for count in CONNECTIONS
        ),
        Row(f"added ms at {RATE:.0f} requests per second", at_rate),
        Row(
            "first token, added ms",
            lambda one, direct: added(one.first_token, direct.first_token, is_direct=one is direct),
        ),
        Row("CPU per stream frame, µs", lambda one, _: number(frame_cost(one))),
        Row("most streams, every frame there", lambda one, _: most_streams(one)),
        *map(memory, ("idle", "steady", "recovered")),
        Row("start-up, s", lambda one, _: number(one.start_seconds or None)),
        Row("failed requests", lambda one, _: failures(one)),
    ]


def saturation(one: Measured) -> float | None:
    """The highest rate of answers at any number of connections."""
    return max((closed.rate for closed in one.plain.values()), default=None)


def most_streams(one: Measured) -> str:
    """With a sign where the steps began or ended beyond the system's strength."""
    if one.most_streams is None:
        return NOTHING
    if one.most_streams == 0:
        return f"<{one.concurrency[0].streams}"
    return f"{one.most_streams}{'+' if one.concurrency[-1].is_whole else ''}"


def failures(one: Measured) -> str:
    """Answers that were none, or errors."""
    if not one.plain:
        return NOTHING
    return str(sum(closed.errors for closed in one.plain.values()))


def comparison(found: Mapping[str, Measured], titles: Mapping[str, str]) -> list[list[str]]:
    """The cells, the first line the heads."""
    direct = found.get("direct", Measured())
    heads = ["", *(titles[name] for name in found)]
    return [heads, *([row.title, *(row.cell(m, direct) for m in found.values())] for row in rows())]


def growth_cells(growth: Sequence[Grown]) -> list[list[str]]:
    """The cases of growth."""
    heads = ["ours with", "beside", "CPU µs", "beside it", "ratio", "req/s", "p50 / p95 / p99 ms"]
    lines = [[*heads, "MB before", "start s"]]
    for case in growth:
        costs = [number(case.case.cpu_us), number(case.reference.cpu_us), number(case.ratio)]
        speed = [number(case.case.rate), latencies(case.case.latency)]
        more = [number(case.memory), number(case.start_seconds)]
        lines.append([case.title, case.reference_title, *costs, *speed, *more])
    return lines


def bar_cells(bars: Sequence[Bar]) -> list[list[str]]:
    """Returns the bars and their measurements."""
    lines = [["what", "at most", "later", "measured", ""]]
    for bar in bars:
        limits = [f"{number(limit)}{bar.unit}" for limit in (bar.at_most, bar.later)]
        measured = NOTHING if bar.measured is None else f"{number(bar.measured)}{bar.unit}"
        lines.append([bar.what, *limits, measured, bar.word])
    return lines


def as_text(lines: Sequence[Sequence[str]]) -> str:
    """Columns under each other, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *others = widths
    return "\n".join(
        "  ".join(
            [line[0].ljust(first), *(c.rjust(w) for c, w in zip(line[1:], others, strict=True))]
        ).rstrip()
        for line in lines
    )


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """The same as a table of Markdown."""
    heads, *others = lines
    rule = ["---", *("---:" for _ in heads[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *others))
