"""The bars: limits on the costs of our gateway, and the costs in this run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .growth import FRAME_TITLE, PLAIN_TITLE, ROWS_AND_KEYS, SERVERS, Grown
from .scenarios import BUSY, Measured


@dataclass(frozen=True, slots=True)
class Bar:
    """`at_most` and `later` are the written limits; `measured` is None if this run did not measure
    it."""

    what: str
    at_most: float
    later: float
    measured: float | None
    unit: str = ""

    @property
    def word(self) -> str:
        """Returns whether the bar holds, as one word."""
        if self.measured is None:
            return "not measured"
        if self.measured <= self.later:
            return "holds, the later one too"
        return "holds" if self.measured <= self.at_most else "does not hold"


def bars(found: Mapping[str, Measured], growth: Sequence[Grown]) -> list[Bar]:
    """All of them. What ran beside the bare pass-through in turns counts, where a run has it: the
    speed of a virtual machine changes within minutes."""
    ours = found.get("ours", Measured())

    def cpu_to(name: str) -> float | None:
        return ratio(ours.cpu_us, found.get(name, Measured()).cpu_us)

    def grown(title: str) -> float | None:
        return next((case.ratio for case in growth if case.title == title), None)

    bare = found.get("bare", Measured())
    return [
        Bar(
            "CPU per plain request, to the bare Python pass-through",
            2.0,
            1.5,
            grown(PLAIN_TITLE) or cpu_to("bare"),
        ),
        Bar("CPU per plain request, to LiteLLM", 1 / 20, 1 / 30, cpu_to("litellm")),
        Bar("CPU per plain request, to Portkey", 0.35, 0.2, cpu_to("portkey")),
        Bar("CPU per plain request, to TensorZero", 2.0, 1.0, cpu_to("tensorzero")),
        Bar(
            "added p99 at 8 connections, to Portkey",
            0.5,
            0.25,
            ratio(added_p99(found, "ours"), added_p99(found, "portkey")),
        ),
        Bar(
            "added p99 at 8 connections, to the bare pass-through",
            3.0,
            2.0,
            ratio(added_p99(found, "ours"), added_p99(found, "bare")),
        ),
        Bar(
            "CPU per relayed stream frame, to the bare pass-through",
            1.5,
            1.2,
            grown(FRAME_TITLE) or ratio(frame_cost(ours), frame_cost(bare)),
        ),
        Bar(f"cost with {ROWS_AND_KEYS}, to that with 10", 1.1, 1.0, grown(ROWS_AND_KEYS)),
        Bar("idle memory per worker", 110, 80, ours.memory.get("idle"), " MB"),
        Bar(f"cost with {SERVERS}, to in-memory", 1.15, 1.05, grown(SERVERS)),
    ]


def ratio(part: float | None, whole: float | None) -> float | None:
    """None where either is missing or there is nothing to divide by."""
    return part / whole if part is not None and whole else None


def added_p99(found: Mapping[str, Measured], name: str) -> float | None:
    """Returns the p99 that a system adds to the direct call at 8 connections, in ms."""
    direct, system = found.get("direct", Measured()), found.get(name, Measured())
    if BUSY not in direct.plain or BUSY not in system.plain:
        return None
    return system.plain[BUSY].latency.over(direct.plain[BUSY].latency).p99


def frame_cost(measured: Measured) -> float | None:
    """CPU of one relayed frame, in µs."""
    return measured.frames.cpu_us if measured.frames else None
