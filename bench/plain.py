"""Plain load: wrk in a closed loop, and requests at a fixed rate whatever the answers do."""

import asyncio
import json
import secrets
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .client import Connection, LostConnection
from .measure import Latency, cpu_seconds, latency
from .processes import CannotStart
from .targets import Target

SCRIPT = Path(__file__).with_name("wrk.lua")
MOST_WAITING = 256
GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Closed:
    """The result of wrk; `cpu_us` is the CPU time of the system per request, None if not
    measured."""

    requests: int
    seconds: float
    errors: int
    latency: Latency
    cpu_us: float | None

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Open:
    """Requests sent at a fixed rate; latencies count from the moment each was due."""

    rate: float
    sent: int
    answered: int
    latency: Latency

    @property
    def is_held(self) -> bool:
        """Whether practically every request was answered well."""
        return self.answered >= 0.99 * self.sent


def closed_loop(
    target: Target, template: str, *, connections: int, seconds: float, session: int | None = None
) -> Closed:
    """Runs wrk. Raises CannotStart where it fails."""
    with tempfile.TemporaryDirectory(prefix="llm-bench-") as name:
        files = [Path(name) / part for part in ("body", "keys", "models")]
        texts = (template, "\n".join(target.keys), "\n".join(target.models))
        for file, text in zip(files, texts, strict=True):
            file.write_text(text)
        command = ["wrk", "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{seconds:.0f}s", "--timeout", "30s", "--script", str(SCRIPT)]
        for header, value in target.request_headers().items():
            command += ["--header", f"{header}: {value}"]
        command += [target.url, "--", secrets.token_hex(4), *map(str, files)]
        before = cpu_seconds(session) if session is not None else 0.0
        try:
            outcome = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=seconds + 60
            )
        except subprocess.TimeoutExpired as error:
            raise CannotStart("wrk did not come to its end") from error
        used = cpu_seconds(session) - before if session is not None else None
    if outcome.returncode:
        raise CannotStart(f"wrk: {outcome.stderr or outcome.stdout}")
    return closed_outcome(outcome.stdout, used)


def closed_outcome(output: str, cpu: float | None) -> Closed:
    """Reads the line of JSON at the end of wrk's output."""
    found = json.loads(output.strip().splitlines()[-1])
    requests = found["requests"]
    return Closed(
        requests=requests,
        seconds=found["seconds"],
        errors=found["errors"],
        latency=Latency(found["p50"], found["p95"], found["p99"]),
        cpu_us=cpu / requests * 1e6 if cpu is not None and requests else None,
    )


async def open_loop(target: Target, template: str, *, rate: float, seconds: float) -> Open:
    """Sends requests evenly at `rate` per second, on as many connections as that takes, up to a
    limit; past it requests wait, and their wait counts."""
    total = int(rate * seconds)
    nonce = secrets.token_hex(4)
    idle: list[Connection] = []
    room = asyncio.Semaphore(MOST_WAITING)
    times: list[float] = []
    start = time.perf_counter() + 0.1

    async def one(index: int) -> None:
        due = start + index / rate
        await asyncio.sleep(due - time.perf_counter())
        async with room:
            try:
                connection = idle.pop() if idle else await Connection.open(*target.address)
                status = await connection.ask(
                    target.raw_request(template, f"{nonce}{index:09}", index)
                )
            except (LostConnection, OSError):
                return
            idle.append(connection)
            if status == 200:
                times.append((time.perf_counter() - due) * 1e3)

    tasks = [asyncio.create_task(one(index)) for index in range(total)]
    _, late = await asyncio.wait(tasks, timeout=seconds + GRACE_SECONDS)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for connection in idle:
        connection.close()
    return Open(rate, total, len(times), latency(times))
