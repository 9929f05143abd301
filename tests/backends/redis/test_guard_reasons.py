"""Reasons that guarded Redis access reports for failed calls, with advice and without secrets."""

import asyncio
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis

from llm_routing.backends.redis.guard import GuardedRedis, RedisCalls, RedisUnavailable
from llm_routing.backends.redis.trouble import ADVICE, RedisTrouble
from project.processes import free_port
from tests.listening import listening
from tests.tls import self_signed

from .guards import Clock, ask
from .servers import MortalRedis


async def test_a_failing_script_does_not_reveal_its_arguments(
    guarded: GuardedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RedisUnavailable) as caught:
        await guarded.run("return redis.call('HGET', KEYS[1])", ["name"], ["sk-secret"])
    assert "sk-secret" not in caplog.text + str(caught.value)
    assert "it answered with an error (other)" in caplog.text


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
