"""Redis access while Redis is slow, unreachable, back, or misconfigured."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis

from llm_routing.backends.clock import SystemClock
from llm_routing.backends.redis.connection import RedisConnection
from llm_routing.backends.redis.guard import (
    MAX_SLOW_IN_A_ROW,
    GuardedRedis,
    RedisCalls,
    RedisUnavailable,
)
from llm_routing.backends.redis.trouble import ADVICE, RedisTrouble
from llm_routing.system.redis_address import RedisAddress
from project.processes import free_port
from tests.listening import listening
from tests.tls import self_signed

from .servers import MortalRedis


class Clock(SystemClock):
    now_is = 1000.0

    def monotonic(self) -> float:
        return self.now_is


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mortal(redis_url: str, tmp_path: Path) -> Iterator[MortalRedis]:
    server = MortalRedis(tmp_path)
    server.start()
    yield server
    server.end()


@pytest.fixture
async def guarded(mortal: MortalRedis, clock: Clock) -> AsyncIterator[GuardedRedis]:
    redis = GuardedRedis(mortal.url, clock=clock, rng=Random(1))
    yield redis
    await redis.aclose()


async def ask(guarded: GuardedRedis) -> bool:
    """Whether Redis answered."""
    try:
        return bool(await guarded.run("return 1", [], []))
    except RedisUnavailable:
        return False


def trouble(mortal: MortalRedis, kind: str) -> None:
    if kind == "killed":
        mortal.kill()
    else:
        mortal.freeze()


def better(mortal: MortalRedis, kind: str) -> None:
    if kind == "killed":
        mortal.start()
    else:
        mortal.thaw()


@pytest.mark.parametrize("kind", ["killed", "frozen"])
async def test_after_a_failure_redis_is_paused_and_then_tested_by_one_call(
    mortal: MortalRedis, guarded: GuardedRedis, clock: Clock, kind: str
) -> None:
    assert await ask(guarded)
    trouble(mortal, kind)
    assert not await ask(guarded)
    assert guarded.calls == RedisCalls(failed=1, skipped=0, is_paused=True)
    assert not any([await ask(guarded) for _ in range(50)])
    assert guarded.calls == RedisCalls(failed=1, skipped=50, is_paused=True)
    clock.now_is += 0.7
    assert not any(await asyncio.gather(*(ask(guarded) for _ in range(50))))
    assert guarded.calls == RedisCalls(failed=2, skipped=99, is_paused=True)
    better(mortal, kind)
    assert not await ask(guarded)
    clock.now_is += 1.3
    assert await ask(guarded)
    assert guarded.calls == RedisCalls(failed=2, skipped=100, is_paused=False)
    assert all(await asyncio.gather(*(ask(guarded) for _ in range(20))))


async def test_pauses_grow_up_to_a_limit(
    mortal: MortalRedis, guarded: GuardedRedis, clock: Clock
) -> None:
    mortal.kill()
    pauses = []
    for _ in range(9):
        await ask(guarded)
        asked, began = guarded.calls.failed, clock.now_is
        while guarded.calls.failed == asked:
            clock.now_is += 0.05
            await ask(guarded)
        pauses.append(clock.now_is - began)
    assert 0.4 <= pauses[0] <= 0.65
    assert all(1.3 <= after / before <= 3.2 for before, after in pairwise(pauses[:4]))
    assert all(7.9 <= pause <= 10.1 for pause in pauses[5:])


async def test_calls_that_fail_together_cause_one_pause(
    mortal: MortalRedis, guarded: GuardedRedis, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ask(guarded)
    mortal.freeze()
    with caplog.at_level(logging.WARNING):
        assert not any(await asyncio.gather(*(ask(guarded) for _ in range(20))))
    assert guarded.calls.failed == 20
    assert len(caplog.records) == 1
    mortal.thaw()
    clock.now_is += 0.65
    assert await ask(guarded)


async def test_a_failing_script_does_not_reveal_its_arguments(
    guarded: GuardedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RedisUnavailable) as caught:
        await guarded.run("return redis.call('HGET', KEYS[1])", ["name"], ["sk-secret"])
    assert "sk-secret" not in caplog.text + str(caught.value)
    assert "it answered with an error (other)" in caplog.text


async def say(guarded: GuardedRedis, word: str) -> str:
    said = await guarded.run("return ARGV[1]", [], [word])
    return str(said.decode())


async def test_all_users_of_a_loop_share_one_connection(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    words = [str(number) for number in range(200)]
    assert await asyncio.gather(*(say(guarded, word) for word in words)) == words
    async with Redis.from_url(mortal.url) as witness:
        assert len(await witness.client_list()) == 2


async def test_closing_during_calls_does_not_count_against_redis(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    assert await ask(guarded)
    mortal.freeze()
    waiting = [asyncio.create_task(say(guarded, "x")) for _ in range(3)]
    await asyncio.sleep(0.03)
    await guarded.aclose()
    mortal.thaw()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [RedisUnavailable] * 3
    assert guarded.calls == RedisCalls()
    assert await ask(guarded)


async def test_calls_on_a_dropped_connection_fail_although_there_is_a_new_one(
    mortal: MortalRedis, clock: Clock
) -> None:
    made: list[RedisConnection] = []

    def connect(address: RedisAddress) -> RedisConnection:
        made.append(RedisConnection(address))
        return made[-1]

    guarded = GuardedRedis(mortal.url, clock=clock, rng=Random(1), connect=connect)
    assert await ask(guarded)
    mortal.freeze()
    waiting = [asyncio.create_task(ask(guarded)) for _ in range(3)]
    await asyncio.sleep(0)
    made[0].drop(TimeoutError())
    # A call in the same turn of the loop, before the others learn of the end, gets a new one.
    next_call = guarded.run("return 1", [], [])
    next_call.send(None)
    assert len(made) == 2
    assert await asyncio.gather(*waiting) == [False] * 3
    assert guarded.calls == RedisCalls(failed=3, is_paused=True)
    next_call.close()
    mortal.thaw()
    await guarded.aclose()


async def test_cancelled_calls_do_not_take_the_replies_of_others(guarded: GuardedRedis) -> None:
    rng = Random(7)

    async def one(number: int) -> bool:
        asking = asyncio.create_task(say(guarded, str(number)))
        for _ in range(rng.randrange(6)):
            await asyncio.sleep(0)
        if number % 3 == 0:
            asking.cancel()
        try:
            return await asking == str(number)
        except asyncio.CancelledError:
            return number % 3 == 0

    for _ in range(20):
        assert all(await asyncio.gather(*(one(number) for number in range(60))))
    assert guarded.calls == RedisCalls()


async def test_a_connection_that_redis_closed_while_idle_costs_no_call(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    assert await ask(guarded)
    async with Redis.from_url(mortal.url) as witness:
        await witness.client_kill_filter(_type="normal", skipme=True)
        before = (await witness.info("stats"))["total_connections_received"]
        await asyncio.sleep(0.05)
        assert await ask(guarded)
        await asyncio.sleep(0.05)
        assert await ask(guarded)
        assert (await witness.info("stats"))["total_connections_received"] == before + 1
    assert guarded.calls == RedisCalls()


async def test_scripts_are_sent_again_after_redis_lost_them(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    assert await say(guarded, "a") == "a"
    async with Redis.from_url(mortal.url) as witness:
        await witness.script_flush()
    assert await say(guarded, "b") == "b"
    assert guarded.calls == RedisCalls()


async def test_a_cancelled_probe_is_repeated_by_the_next_call(
    mortal: MortalRedis, guarded: GuardedRedis, clock: Clock
) -> None:
    mortal.freeze()
    assert not await ask(guarded)
    clock.now_is += 1
    asking = asyncio.create_task(ask(guarded))
    await asyncio.sleep(0.02)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert guarded.calls.failed == 1
    mortal.thaw()
    assert await ask(guarded)


async def test_event_loops_have_their_own_connections_and_share_the_pause(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    async def elsewhere() -> bool:
        try:
            return await ask(guarded)
        finally:
            await guarded.aclose()

    assert await ask(guarded)
    assert await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    mortal.kill()
    assert not await ask(guarded)
    assert not await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    assert guarded.calls == RedisCalls(failed=1, skipped=1, is_paused=True)


async def misbehaving(mortal: MortalRedis, kind: str) -> str:
    """Brings the trouble about, and returns the URL by which a process meets it."""
    async with Redis.from_url(mortal.url) as admin:
        match kind:
            case "read_only":
                await admin.replicaof("127.0.0.1", "1")
            case "out_of_memory":
                await admin.config_set("maxmemory", "1")
            case "credentials":
                await admin.acl_setuser("ann", enabled=True, passwords=["+right"])
                return mortal.url.replace("//", "//ann:hunter2@")
            case "not_permitted":
                await admin.acl_setuser(
                    "bob", enabled=True, passwords=["+hunter2"], keys=["*"], commands=["+get"]
                )
                return mortal.url.replace("//", "//bob:hunter2@")
            case "not_permitted inside":
                await admin.acl_setuser(
                    "eve",
                    enabled=True,
                    passwords=["+hunter2"],
                    keys=["other:*"],
                    commands=["+eval", "+evalsha", "+set"],
                )
                return mortal.url.replace("//", "//eve:hunter2@")
    return mortal.url


@pytest.mark.parametrize(
    "kind",
    ["read_only", "out_of_memory", "credentials", "not_permitted", "not_permitted inside"],
)
async def test_the_log_names_the_reason_with_advice_and_without_secrets(
    mortal: MortalRedis, kind: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    redis = GuardedRedis(await misbehaving(mortal, kind), clock=clock, rng=Random(1))
    reason = RedisTrouble(kind.split(" ")[0])
    for _ in range(4):
        with pytest.raises(RedisUnavailable):
            await redis.run("return redis.call('SET', KEYS[1], ARGV[1])", ["name"], ["sk-secret"])
        clock.now_is += 20
    assert redis.calls.reasons == {reason: 4}
    (record,) = caplog.records
    assert ADVICE[reason] in record.getMessage()
    for word in ("hunter2", "sk-secret", "name ", "ResponseError"):
        assert word not in caplog.text
    await redis.aclose()


async def test_a_redis_without_scripts_is_reported_as_such(
    redis_url: str, tmp_path: Path, clock: Clock
) -> None:
    server = MortalRedis(
        tmp_path, ("--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "")
    )
    server.start()
    redis = GuardedRedis(server.url, clock=clock, rng=Random(1))
    assert not await ask(redis)
    assert redis.calls.reasons == {RedisTrouble.NO_SCRIPTS: 1}
    await redis.aclose()
    server.end()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", RedisTrouble.NOT_REDIS),
        (b"-LOADING Redis is loading the dataset in memory\r\n", RedisTrouble.LOADING),
        (b"-BUSY Redis is busy running a script.\r\n", RedisTrouble.BUSY),
        (b"-MISCONF Errors writing to the AOF file\r\n", RedisTrouble.NOT_SAVING),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", RedisTrouble.CLUSTER),
        (b"-CLUSTERDOWN Hash slot not served\r\n", RedisTrouble.CLUSTER_DOWN),
        (
            b"-ERR Error running script (call to f_1): @user_script:1: READONLY You\r\n",
            RedisTrouble.READ_ONLY,
        ),
        (b"-" + b"x" * 100_000 + b" hunter2 OOM\r\n", RedisTrouble.OTHER),
        (b":1\r\n:2\r\n:3\r\n", None),
        (b"$400000000\r\n" + b"x" * 17_000_000, RedisTrouble.NOT_REDIS),
        (b"*3\r\n$3\r\nab", RedisTrouble.SILENT),
        (b"*1\r\n" * 500, RedisTrouble.SILENT),
        (b"", RedisTrouble.AWAY),
    ],
    ids=lambda value: (
        value.split()[0][:12].decode() if isinstance(value, bytes) and value else None
    ),
)
async def test_a_peer_that_is_not_redis_is_a_miss_with_a_reason(
    words: bytes, reason: RedisTrouble | None, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(words)
        if words:
            with suppress(ConnectionError):
                await reader.read()

    async with listening(serve) as port:
        redis = GuardedRedis(f"redis://127.0.0.1:{port}", clock=clock, rng=Random(1))
        assert await ask(redis) is (reason is None)
        await asyncio.sleep(0)
        assert set(redis.calls.reasons) == ({reason} - {None})
        assert "hunter2" not in caplog.text
        assert all(len(record.getMessage()) < 400 for record in caplog.records)
        await redis.aclose()


async def test_a_rejected_certificate_is_reported(
    redis_url: str, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, port = str(self_signed(tmp_path)), free_port()
    server = MortalRedis(
        tmp_path,
        (
            *("--tls-port", str(port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", certificate, "--tls-key-file", certificate),
            *("--tls-ca-cert-file", certificate),
        ),
    )
    server.start()
    redis = GuardedRedis(f"rediss://127.0.0.1:{port}", clock=clock, rng=Random(1))
    assert not await ask(redis)
    assert redis.calls.reasons == {RedisTrouble.CERTIFICATE: 1}
    assert "ssl_ca_certs" in caplog.text
    await redis.aclose()
    server.end()


async def test_an_outage_and_its_end_are_logged_once(
    mortal: MortalRedis, guarded: GuardedRedis, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ask(guarded)
    mortal.kill()
    for _ in range(6):
        await ask(guarded)
        clock.now_is += 15
    mortal.start()
    assert await ask(guarded)
    assert await ask(guarded)
    first, last = (record.getMessage() for record in caplog.records)
    assert "see that it runs at the address in REDIS_URL (away)" in first
    assert last == "Redis is used again after 90 s."


async def test_a_key_of_ours_with_a_value_of_another_type_is_removed(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    script = "return redis.call('GET', KEYS[1])"
    async with Redis.from_url(mortal.url) as admin:
        await admin.rpush("llm_routing:ours", "junk")
        await admin.rpush("theirs", "junk")
    with pytest.raises(RedisUnavailable):
        await guarded.run(script, ["llm_routing:ours"], [])
    assert guarded.calls == RedisCalls(failed=1, forged=1)
    assert guarded.calls.reasons == {RedisTrouble.WRONG_TYPE: 1}
    assert await guarded.run(script, ["llm_routing:ours"], []) is None
    async with Redis.from_url(mortal.url) as admin:
        assert await admin.exists("theirs")


class SlowConnection:
    """A connection to a Redis whose replies are all slow, or none."""

    is_lost = is_closed = False

    def __init__(self) -> None:
        self.slow_in_a_row = 0
        self.is_late = True

    async def execute(self, *command: str | bytes | int) -> int:
        self.slow_in_a_row = self.slow_in_a_row + 1 if self.is_late else 0
        return 1

    def drop(self, error: BaseException) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.is_closed = True


async def test_a_redis_that_is_always_slow_is_paused_like_a_dead_one(
    redis_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    line = SlowConnection()
    redis = GuardedRedis(redis_url, clock=clock, rng=Random(1), connect=lambda _: line)
    assert sum([await ask(redis) for _ in range(60)]) == MAX_SLOW_IN_A_ROW
    assert redis.calls == RedisCalls(failed=1, skipped=60 - MAX_SLOW_IN_A_ROW, is_paused=True)
    # The one that finds out has its answer, and the others are spared it.
    clock.now_is += 15
    assert sum([await ask(redis) for _ in range(20)]) == 1
    assert redis.calls.reasons == {RedisTrouble.SLOW: 2}
    line.is_late = False
    clock.now_is += 15
    assert all([await ask(redis) for _ in range(20)])
    # One late answer now and then is no reason.
    for number in range(40):
        line.is_late = number % 2 == 0
        assert await ask(redis)
    first, last = (record.getMessage() for record in caplog.records)
    assert "too slowly to help" in first
    assert "used again" in last
    await redis.aclose()
