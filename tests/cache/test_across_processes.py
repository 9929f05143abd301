"""Workers of one machine and of several: one call for all, even if some are killed."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from project.processes import ROOT
from tests.conftest import with_path
from tests.servers import Server, environment

from .conftest import Upstream

Worker = subprocess.Popen[str]


@pytest.fixture(params=["files", "redis"])
def env(request: pytest.FixtureRequest, tmp_path: Path, sandbox: Server) -> Mapping[str, str]:
    """The environment of the workers: one state directory for all, or one Redis and a directory
    for each."""
    return request.getfixturevalue(f"with_{request.param}")


@pytest.fixture
def with_files(tmp_path: Path, sandbox: Server) -> Mapping[str, str]:
    return environment(tmp_path, "sqlite://:memory:", None, LLM_SANDBOX_URL=sandbox.url)


@pytest.fixture
def with_redis(tmp_path: Path, sandbox: Server, redis_url: str) -> Mapping[str, str]:
    url = with_path(redis_url, "/5")
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return environment(tmp_path, "sqlite://:memory:", url, LLM_SANDBOX_URL=sandbox.url)


@contextmanager
def workers(
    env: Mapping[str, str],
    tmp_path: Path,
    *,
    count: int,
    requests: int,
    prompt: str,
    kind: str,
    key: str | None = None,
) -> Iterator[list[Worker]]:
    """Starts processes that are ready to send requests."""
    started = []
    for number in range(count):
        own = dict(env)
        if "REDIS_URL" in env:
            own["LLM_STATE_DIR"] = str(tmp_path / f"machine-{number}")
        command = [sys.executable, "-m", "tests.cache.worker", str(requests), prompt, kind]
        command += [] if key is None else [key]
        pipe = subprocess.PIPE
        worker = subprocess.Popen(command, cwd=ROOT, env=own, stdin=pipe, stdout=pipe, text=True)
        started.append(worker)
    try:
        for worker in started:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()


def go(worker: Worker) -> None:
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()


def counted(started: list[Worker]) -> Counter[str]:
    states: Counter[str] = Counter()
    for worker in started:
        assert worker.stdout is not None
        states += Counter(json.loads(worker.stdout.readline()))
    return states


@pytest.mark.parametrize("kind", ["whole", "stream"])
async def test_a_thousand_identical_requests_to_four_processes_make_one_call(
    with_redis: Mapping[str, str], tmp_path: Path, upstream: Upstream, kind: str
) -> None:
    prompt = "[[delay=1 token_delay=0.01]] Hello"
    with workers(with_redis, tmp_path, count=4, requests=250, prompt=prompt, kind=kind) as started:
        for worker in started:
            go(worker)
        assert counted(started) == {"hit": 999, "miss": 1}
    assert await upstream.calls() == 1


async def test_without_redis_each_worker_calls_upstream_once(
    with_files: Mapping[str, str], tmp_path: Path, upstream: Upstream
) -> None:
    """Without Redis workers share no answers; identical requests to one worker share a call."""
    with workers(
        with_files, tmp_path, count=2, requests=50, prompt="[[delay=1]] Hello", kind="whole"
    ) as started:
        for worker in started:
            go(worker)
        assert counted(started) == {"hit": 98, "miss": 2}
    assert await upstream.calls() == 2


async def kill_during_its_call(leader: Worker, follower: Worker, upstream: Upstream) -> None:
    """Starts the leader's requests, then the follower's, and kills the leader, whose call has
    reached the upstream."""
    go(leader)
    deadline = time.monotonic() + 90
    while await upstream.calls() == 0:
        assert time.monotonic() < deadline
    go(follower)
    leader.kill()
    leader.wait()


async def test_another_worker_takes_over_if_the_calling_one_is_killed(
    with_redis: Mapping[str, str], tmp_path: Path, upstream: Upstream
) -> None:
    await upstream.script("stall_after=0")
    with workers(with_redis, tmp_path, count=2, requests=50, prompt="Hi", kind="whole") as started:
        leader, follower = started
        await kill_during_its_call(leader, follower, upstream)
        assert counted([follower]) == {"hit": 49, "miss": 1}
    assert await upstream.calls() == 2


@pytest.mark.parametrize("kind", ["whole", "stream"])
async def test_an_idempotency_key_makes_one_call_among_all_workers_and_later_ones(
    env: Mapping[str, str], tmp_path: Path, upstream: Upstream, kind: str
) -> None:
    many = {"prompt": "[[delay=1]] Hello", "kind": kind, "key": "k"}
    with workers(env, tmp_path, count=2, requests=25, **many) as started:
        for worker in started:
            go(worker)
        assert counted(started) == {"replayed": 49, "asked": 1}
        for worker in started:
            assert worker.wait(90) == 0
    with workers(env, tmp_path, count=1, requests=1, **many) as started:
        go(started[0])
        assert counted(started) == {"replayed": 1}
    with workers(env, tmp_path, count=1, requests=1, **(many | {"prompt": "Other"})) as started:
        go(started[0])
        (refusal,) = counted(started)
        assert "idempotency key" in refusal
    assert await upstream.calls() == 1


async def test_an_idempotency_key_outlives_a_worker_killed_during_its_call(
    env: Mapping[str, str], tmp_path: Path, upstream: Upstream
) -> None:
    await upstream.script("stall_after=0")
    many = {"prompt": "Hi", "kind": "whole", "key": "k"}
    with workers(env, tmp_path, count=2, requests=20, **many) as started:
        leader, follower = started
        await kill_during_its_call(leader, follower, upstream)
        assert counted([follower]) == {"replayed": 19, "asked": 1}
    assert await upstream.calls() == 2
