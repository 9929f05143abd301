"""The costs of our gateway beside the bare pass-through, and as it grows: more rows, larger bodies,
more workers, servers behind it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .measure import Latency, memory_mb
from .plain import Closed, closed_loop
from .processes import CannotStart
from .scenarios import BUSY, Effort, Say, check, frames_of_64_streams, median_window, run
from .systems import Bare, Ours, Started, System
from .targets import Target, plain_body
from .upstream import SIZES, Upstream


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to one target, all with the body of one template."""

    target: Target
    template: str
    session: int | None

    def window(self, seconds: float) -> Closed:
        """Runs a closed loop for some seconds."""
        return closed_loop(
            self.target,
            self.template,
            connections=BUSY,
            seconds=seconds,
            session=self.session,
        )


@dataclass(frozen=True, slots=True)
class StreamLoad:
    """64 streams with a frame every 20 ms each; a window counts frames in place of requests."""

    target: Target
    session: int | None

    def window(self, seconds: float) -> Closed:
        """Relays streams of some seconds. Latencies of frames are not measured."""
        found = run(partial(frames_of_64_streams, self.target, seconds, self.session))
        nothing = Latency(math.nan, math.nan, math.nan)
        return Closed(found.delivered, found.seconds, 0, nothing, found.cpu_us)


@dataclass(frozen=True, slots=True)
class Grown:
    """A case and its reference, in the same minutes."""

    title: str
    reference_title: str
    case: Closed
    reference: Closed
    memory: float
    start_seconds: float

    @property
    def ratio(self) -> float | None:
        """CPU for each request, to that of the reference."""
        if not self.case.cpu_us or not self.reference.cpu_us:
            return None
        return self.case.cpu_us / self.reference.cpu_us


ROWS_AND_KEYS = "20 000 models and routes, 1 000 000 keys"
SERVERS = "PostgreSQL + Redis"
BASE = "10 models, routes and keys"
CASES: tuple[tuple[str, Ours], ...] = (
    ("1 000 models and routes", Ours("routes-1000", routes=1_000)),
    ("20 000 models and routes", Ours("routes-20000", routes=20_000)),
    ("1 000 000 keys", Ours("keys-1000000", keys=1_000_000)),
    (ROWS_AND_KEYS, Ours("routes-keys", routes=20_000, keys=1_000_000)),
    ("two workers (on one core)", Ours("workers-2", workers=2)),
    (SERVERS, Ours("servers", servers=True)),
)
SIZE_TITLES = {"1k": "1 kB", "100k": "100 kB", "5m": "5 MB"}
BARE_TITLE = "bare pass-through"
PLAIN_TITLE, FRAME_TITLE = "a plain request", "a frame of a stream"
PLAIN, FRAME, CACHE_HIT = "plain", "frame", "cache-hit"
NAMES = (PLAIN, FRAME, CACHE_HIT, *SIZES, *(system.name for _, system in CASES))


def grow(
    upstream: Upstream, base: Path, chosen: frozenset[str], effort: Effort, say: Say
) -> Iterator[Grown]:
    """The chosen cases, as they are done; one that cannot start is said and left out. Raises
    CannotStart where there is nothing to put beside them."""
    ours = Ours("reference", sizes=tuple(SIZES))
    with (
        started(ours, upstream, base) as reference,
        started(Bare("bare-reference"), upstream, base) as bare,
    ):
        usual = Load(reference.plain, plain_body(), reference.session)
        if PLAIN in chosen:
            bare_load = Load(bare.plain, plain_body(), bare.session)
            yield side_by_side(PLAIN_TITLE, BARE_TITLE, usual, bare_load, reference, effort)
            say(PLAIN)
        if FRAME in chosen:
            ours_frames = StreamLoad(reference.stream, reference.session)
            bare_frames = StreamLoad(bare.stream, bare.session)
            yield side_by_side(FRAME_TITLE, BARE_TITLE, ours_frames, bare_frames, reference, effort)
            say(FRAME)
        if CACHE_HIT in chosen:
            hit = Load(reference.plain, plain_body(is_same=True), reference.session)
            yield side_by_side("every answer from the cache", BASE, hit, usual, reference, effort)
            say(CACHE_HIT)
        for size in [size for size in SIZES if size in chosen]:
            template = plain_body(SIZES[size])
            ours_load = Load(reference.sized[size], template, reference.session)
            bare_load = Load(bare.sized[size], template, bare.session)
            title = f"request and answer of {SIZE_TITLES[size]}"
            yield side_by_side(title, BARE_TITLE, ours_load, bare_load, reference, effort)
            say(size)
        for title, system in [case for case in CASES if case[1].name in chosen]:
            try:
                with started(system, upstream, base) as case:
                    load = Load(case.plain, plain_body(), case.session)
                    yield side_by_side(title, BASE, load, usual, case, effort)
                    say(system.name)
            except CannotStart as error:
                say(f"{system.name} does not start: {error}")


def side_by_side(
    title: str,
    reference_title: str,
    load: Load | StreamLoad,
    reference: Load | StreamLoad,
    case: Started,
    effort: Effort,
) -> Grown:
    """Windows of both in turn; the median of each."""
    assert case.session is not None
    idle = memory_mb(case.session)
    for warming in (load, reference):
        warming.window(effort.warm_up)
    pairs = [
        (load.window(effort.seconds), reference.window(effort.seconds))
        for _ in range(effort.windows)
    ]
    return Grown(
        title=title,
        reference_title=reference_title,
        case=median_window([mine for mine, _ in pairs]),
        reference=median_window([other for _, other in pairs]),
        memory=idle,
        start_seconds=case.start_seconds,
    )


@contextmanager
def started(system: System, upstream: Upstream, base: Path) -> Iterator[Started]:
    """Runs a system and sees that it answers. Raises CannotStart."""
    directory = base / system.name
    directory.mkdir()
    with system.start(upstream, directory) as running:
        check(running)
        yield running
