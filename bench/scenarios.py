"""The load on a system, and the measurements."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import httpx
import uvloop

from .measure import Latency, memory_mb
from .plain import Closed, Open, closed_loop, open_loop
from .processes import CannotStart
from .streams import Frames, first_token, paced
from .systems import Started
from .targets import WORD, Target, plain_body, stream_body
from .upstream import GREETING

SCENARIOS = ("plain", "rate", "stream", "concurrency", "growth")
CONNECTIONS = (1, 8, 64)
BUSY = 8
# Every system but the slowest holds it on one core.
RATE = 200.0
STEPS = (50, 100, 200, 400, 800, 1600)


@dataclass(frozen=True, slots=True)
class Effort:
    """The duration of each part."""

    seconds: float = 4.0
    windows: int = 3
    warm_up: float = 2.0
    first_tokens: int = 200
    frame_seconds: float = 6.0
    step_seconds: float = 4.0
    steps: tuple[int, ...] = STEPS
    settle: float = 2.0
    recover: float = 10.0


QUICK = Effort(
    seconds=2.0,
    windows=1,
    warm_up=1.0,
    first_tokens=50,
    frame_seconds=3.0,
    step_seconds=2.0,
    steps=(100, 400),
    settle=1.0,
    recover=2.0,
)


@dataclass(slots=True)
class Measured:
    """The measurements of one system; parts that were not requested stay empty."""

    start_seconds: float = 0.0
    plain: dict[int, Closed] = field(default_factory=dict)
    rate: Open | None = None
    first_token: Latency | None = None
    frames: Frames | None = None
    concurrency: list[Frames] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)

    @property
    def cpu_us(self) -> float | None:
        """CPU of the system for a plain request, at 8 connections."""
        return self.plain[BUSY].cpu_us if BUSY in self.plain else None

    @property
    def most_streams(self) -> int | None:
        """The most streams at one time with every frame delivered."""
        if not self.concurrency:
            return None
        return max((step.streams for step in self.concurrency if step.is_whole), default=0)


Say = Callable[[str], None]
T = TypeVar("T")


def measure(started: Started, chosen: frozenset[str], effort: Effort, say: Say) -> Measured:
    """Runs the chosen scenarios on a system that was just started."""
    found = Measured(start_seconds=started.start_seconds)
    note_memory(found, started, "idle", effort.settle)
    if "plain" in chosen:
        measure_plain(found, started, effort)
        say("plain")
    if "rate" in chosen:
        found.rate = run(
            lambda: open_loop(started.plain, plain_body(), rate=RATE, seconds=2 * effort.seconds)
        )
        say("rate")
    note_memory(found, started, "steady", 0)
    if "stream" in chosen:
        measure_stream(found, started, effort)
        say("stream")
    if "concurrency" in chosen:
        measure_concurrency(found, started, effort)
        say("concurrency")
    note_memory(found, started, "recovered", effort.recover)
    return found


def run(make: Callable[[], Awaitable[T]]) -> T:
    """Runs a coroutine on uvloop. Raises KeyboardInterrupt if a signal ends it: the loop would
    swallow exceptions from its own signal handlers."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None
        for signum in before:
            asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
        return await make()

    try:
        return uvloop.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def check(started: Started) -> None:
    """Sees that both ways give the upstream's answer. Raises CannotStart where one does not."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        try:
            plain = client.send(started.plain.request(plain_body(), "check"))
            stream = client.send(started.stream.request(stream_body(5, 1), "check"))
        except httpx.HTTPError as error:
            raise CannotStart(f"it does not answer: {error}") from error
    if plain.status_code != 200 or GREETING not in plain.text:
        raise CannotStart(f"a plain request: {plain.status_code} {plain.text[:300]}")
    if stream.status_code != 200 or stream.text.count(WORD) != 5:
        raise CannotStart(f"a stream: {stream.status_code} {stream.text[:300]}")


def note_memory(found: Measured, started: Started, moment: str, after: float) -> None:
    """Records the resident memory, `after` some seconds of rest."""
    if started.session is not None:
        time.sleep(after)
        found.memory[moment] = memory_mb(started.session)


def measure_plain(found: Measured, started: Started, effort: Effort) -> None:
    """Closed loops; at 8 connections the window of median CPU among several."""

    def window(connections: int, seconds: float) -> Closed:
        return closed_loop(
            started.plain,
            plain_body(),
            connections=connections,
            seconds=seconds,
            session=started.session,
        )

    window(BUSY, effort.warm_up)
    for connections in CONNECTIONS:
        windows = effort.windows if connections == BUSY else 1
        found.plain[connections] = median_window(
            [window(connections, effort.seconds) for _ in range(windows)]
        )


def median_window(windows: list[Closed]) -> Closed:
    """The one in the middle, by CPU where it is known, else by rate."""

    def cost(window: Closed) -> float:
        return window.cpu_us or 1 / (window.rate or 1)

    return sorted(windows, key=cost)[len(windows) // 2]


def measure_stream(found: Measured, started: Started, effort: Effort) -> None:
    """Time to the first token, then CPU of a frame in the middle of 64 streams."""
    run(lambda: first_token(started.stream, count=effort.first_tokens // 5))
    found.first_token = run(lambda: first_token(started.stream, count=effort.first_tokens))
    found.frames = run(
        partial(frames_of_64_streams, started.stream, effort.frame_seconds, started.session)
    )


def frames_of_64_streams(target: Target, seconds: float, session: int | None) -> Awaitable[Frames]:
    """Relays 64 streams with a frame every 20 ms each, for some seconds."""
    return paced(
        target, streams=64, frames=int(seconds * 1e3 / 20), interval_ms=20, session=session
    )


def measure_concurrency(found: Measured, started: Started, effort: Effort) -> None:
    """More and more streams of 10 frames a second, until some frames are lost or late."""
    for streams in effort.steps:
        frames = int(effort.step_seconds * 10)
        step = run(
            partial(
                paced,
                started.stream,
                streams=streams,
                frames=frames,
                interval_ms=100,
                session=started.session,
            )
        )
        found.concurrency.append(step)
        if not step.is_whole:
            break
