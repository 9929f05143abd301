"""Streamed load: time to the first token, CPU for each frame, streams at one time."""

import asyncio
import secrets
import time
from dataclasses import dataclass

from .client import Connection, LostConnection
from .measure import Latency, cpu_seconds, latency
from .targets import Target, stream_body

LATE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Frames:
    """`streams` concurrent streams: the cost of a frame in the middle of them, and whether all
    arrived."""

    streams: int
    frames: int
    cpu_us: float | None
    delivered: int
    expected: int
    seconds: float
    planned_seconds: float

    @property
    def is_whole(self) -> bool:
        """Whether every frame of every stream arrived, the last one at most 2 s late."""
        is_late = self.seconds > self.planned_seconds + LATE_SECONDS
        return self.delivered == self.expected and not is_late


async def first_token(target: Target, *, count: int) -> Latency:
    """The time to the first token of `count` streams, one after the other on one connection."""
    template = stream_body(frames=3, interval_ms=2)
    nonce = secrets.token_hex(4)
    times = []
    connection = await Connection.open(*target.address)
    try:
        for index in range(count):
            started = time.perf_counter()
            await connection.ask(target.raw_request(template, f"{nonce}{index:09}", index))
            if connection.first_word_at is not None:
                times.append((connection.first_word_at - started) * 1e3)
    except LostConnection:
        pass  # the frames so far are reported
    finally:
        connection.close()
    return latency(times)


async def paced(
    target: Target, *, streams: int, frames: int, interval_ms: int, session: int | None = None
) -> Frames:
    """Opens `streams` within the first tenth of the time and reads them to their end. CPU is
    counted from 20 % to 80 % of the time, between opening and closing."""
    template = stream_body(frames, interval_ms)
    nonce = secrets.token_hex(4)
    planned = frames * interval_ms / 1e3
    ramp = planned * 0.1
    open_now: list[Connection] = []
    delivered = 0

    async def one(index: int) -> None:
        nonlocal delivered
        await asyncio.sleep(ramp * index / streams)
        try:
            connection = await Connection.open(*target.address)
        except OSError:
            return
        open_now.append(connection)
        try:
            request = target.raw_request(template, f"{nonce}{index:09}", index)
            if await connection.ask(request) == 200:
                delivered += connection.words
        except LostConnection:
            return
        finally:
            connection.close()

    def sample() -> tuple[int, float]:
        cpu = cpu_seconds(session) if session is not None else 0.0
        return sum(connection.words for connection in open_now), cpu

    started = time.perf_counter()
    tasks = [asyncio.create_task(one(index)) for index in range(streams)]
    await asyncio.sleep(planned * 0.2)
    words_before, cpu_before = sample()
    await asyncio.sleep(planned * 0.6)
    words_after, cpu_after = sample()
    _, late = await asyncio.wait(tasks, timeout=planned + ramp + LATE_SECONDS)
    seconds = time.perf_counter() - started
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    relayed = words_after - words_before
    cost = (cpu_after - cpu_before) / relayed * 1e6 if session is not None and relayed else None
    return Frames(streams, relayed, cost, delivered, streams * frames, seconds, planned + ramp)
