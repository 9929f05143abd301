"""Checks and calls: the newest sign counts, for as long as it may."""

from random import Random

import pytest

from llm_routing.configuration.credentials import ProviderCredentials
from llm_routing.core.breaker import Rejected
from llm_routing.core.errors import ServerFailed, UpstreamError
from llm_routing.core.ports import Permit
from llm_routing.core.routing_table import Target
from llm_routing.health import target_health as module
from llm_routing.health.credential_breakers import CredentialBreakers
from llm_routing.health.target_health import (
    MAX_CONSECUTIVE_FAILURES,
    TRAFFIC_SECONDS,
    Check,
    HealthRecordingBreakers,
    TargetHealth,
)
from tests.core.fakes import target

KEY = ("p", "m")
FAILURE_MEMORY = 5.0


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.health = TargetHealth(lambda: self.now)
        self.health.max_age = 180.0
        self.health.failure_memory = FAILURE_MEMORY

    def check(self, is_healthy: bool, age: float = 0.0) -> None:
        code = "" if is_healthy else "server_failed"
        check = Check(self.now - age, is_healthy, code, 5.0, "credential")
        self.health.update_checks({KEY: check}, {"p": 0.5})

    def fail(self, times: int = MAX_CONSECUTIVE_FAILURES) -> None:
        for _ in range(times):
            self.health.record_failure(KEY, 0.1)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.health.refresh()

    def healthy(self) -> bool:
        return "p/m" not in self.health.unhealthy


@pytest.fixture
def world() -> World:
    return World()


def test_a_check_counts_until_it_is_too_old(world: World) -> None:
    assert world.healthy()
    world.check(False)
    assert not world.healthy()
    world.wait(180)
    assert not world.healthy()
    world.wait(1)
    assert world.healthy()
    assert world.health.check_of(KEY) is None


def test_a_newer_check_replaces_an_older_one(world: World) -> None:
    world.check(False)
    world.wait(10)
    world.check(True)
    assert world.healthy()


def test_a_call_that_succeeds_is_newer_than_the_check(world: World) -> None:
    world.check(False)
    world.wait(1)
    world.health.record_success(KEY, 0.1)
    assert world.healthy()
    world.wait(1)
    world.check(False)
    assert not world.healthy()


def test_an_earlier_call_does_not_override_a_check(world: World) -> None:
    world.health.record_success(KEY, 0.1)
    world.wait(5)
    world.check(False)
    assert not world.healthy()


def test_failures_in_a_row_make_a_target_unhealthy_until_it_answers(world: World) -> None:
    world.fail(MAX_CONSECUTIVE_FAILURES - 1)
    assert world.healthy()
    world.fail(1)
    assert not world.healthy()
    world.health.record_success(KEY, 0.1)
    assert world.healthy()
    world.fail(MAX_CONSECUTIVE_FAILURES - 1)
    assert world.healthy()


def test_failures_are_forgiven_by_a_good_check_or_with_time(world: World) -> None:
    world.fail()
    world.wait(1)
    world.check(True)
    assert world.healthy()
    world.wait(1)
    world.fail(1)
    assert not world.healthy()
    world.wait(FAILURE_MEMORY)
    assert not world.healthy()
    world.wait(1)
    assert world.healthy()


def test_a_provider_itself_is_nothing_that_could_be_tried(world: World) -> None:
    check = Check(world.now, False, "server_failed", None, "credential")
    world.health.update_checks({("p", ""): check}, {})
    assert world.health.unhealthy == frozenset()
    assert world.health.check_of(("p", "")) == check


def test_traffic_is_that_of_the_last_minutes(world: World) -> None:
    for seconds in (0.1, 0.3, 0.2):
        world.health.record_success(KEY, seconds)
    world.health.record_failure(KEY, 9.0)
    traffic = world.health.traffic([KEY, ("p", "unknown")])
    assert (traffic.calls, traffic.failures, traffic.latency_ms) == (4, 1, 200.0)
    world.wait(TRAFFIC_SECONDS)
    assert world.health.traffic([KEY]).calls == 0
    assert world.health.traffic([KEY]).latency_ms is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TARGETS", 10)
    world = World()
    for n in range(100):
        for _ in range(200):
            world.health.record_failure(("p", str(n)), 0.1)
    assert world.health.memory.called == 10
    assert world.health.traffic([("p", "99")]).calls == module.MAX_CALLS
    world.health.refresh()
    assert len(world.health.unhealthy) == 10
    world.check(False)
    world.wait(86_400)
    assert world.health.memory.checked == 0
    world.health.clear()
    assert world.health.unhealthy == frozenset()


class Inner:
    """Breakers that record reported outcomes."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.refuses = False

    async def admit(self, target: Target, *, force: bool = False) -> Permit | Rejected:
        refuses = self.refuses and not force
        return Rejected(1.0, "server_failed") if refuses else self

    def succeed(self, seconds: float = 0.0) -> None:
        self.words.append(f"succeed {seconds:g}")

    def fail(self, error: UpstreamError) -> None:
        self.words.append(error.code)

    def release(self) -> None:
        self.words.append("release")


async def test_watched_breakers_tell_both_the_breaker_and_the_signs(world: World) -> None:
    inner = Inner()
    watched = HealthRecordingBreakers(
        inner,
        world.health,
        CredentialBreakers(lambda: world.now, Random(1)),
        ProviderCredentials({}),
    )
    key = ("a", "m")

    async def permit() -> Permit:
        admitted = await watched.admit(target("a"))
        assert not isinstance(admitted, Rejected)
        return admitted

    first = await permit()
    world.now += 2
    first.succeed(0.5)
    first.fail(ServerFailed("No."))
    assert world.health.traffic([key]).latency_ms == 2000
    (await permit()).fail(ServerFailed("No."))
    gone = await permit()
    gone.release()
    gone.succeed()
    traffic = world.health.traffic([key])
    assert (traffic.calls, traffic.failures) == (2, 1)
    # Latency until the first content; the status shows the whole call.
    assert inner.words[0] == "succeed 0.5"
    assert "server_failed" in inner.words
    inner.refuses = True
    assert isinstance(await watched.admit(target("a")), Rejected)
    assert not isinstance(await watched.admit(target("a"), force=True), Rejected)
