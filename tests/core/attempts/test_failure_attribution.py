"""One caller's requests cannot open a breaker for others; a target that fails for all callers opens
it."""

from typing import Any

import pytest

from llm_routing.core.attempts import failure_attribution as module
from llm_routing.core.attempts.calls import Call
from llm_routing.core.attempts.failure_attribution import (
    MAX_UNCONFIRMED,
    MEMORY_SECONDS,
    FailureAttribution,
)
from llm_routing.core.errors import (
    AllTargetsFailed,
    AnswerTooLarge,
    ConnectionFailed,
    ConnectTimeout,
    FirstTokenTimeout,
    RateLimited,
    ServerFailed,
    UpstreamError,
    UpstreamOverloaded,
)
from llm_routing.core.types import Caller
from tests.core.fakes import World, plan_for, refusal, text
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

from .breaker_store import Breakers

EVE, BOB = ("eve", "k"), ("bob", "k")
PROVOKED: tuple[type[UpstreamError], ...] = (ServerFailed, FirstTokenTimeout, AnswerTooLarge)


class Scene:
    def __init__(self) -> None:
        self.attribution = FailureAttribution()
        self.now = 1000.0

    def fails(self, caller: Any, error: type[UpstreamError] = ServerFailed, at: str = "t") -> bool:
        self.now += 0.1
        return self.attribution.believe(at, caller, error("No."), self.now)

    def serves(self, caller: Any, at: str = "t") -> None:
        self.now += 0.1
        self.attribution.note_success(at, caller, self.now)


@pytest.mark.parametrize("error", PROVOKED)
def test_failures_of_the_only_caller_count_in_full(error: type[UpstreamError]) -> None:
    scene = Scene()
    assert all(scene.fails(EVE, error) for _ in range(20))


@pytest.mark.parametrize("error", PROVOKED)
@pytest.mark.parametrize("serves_eve_too", [False, True])
def test_failures_of_one_caller_count_little_while_others_succeed(
    error: type[UpstreamError], serves_eve_too: bool
) -> None:
    scene = Scene()
    scene.serves(BOB)
    counted = 0
    for number in range(50):
        counted += scene.fails(EVE, error)
        if serves_eve_too:
            scene.serves(EVE)
        if number % 10 == 0:
            scene.serves(BOB)
    assert counted == MAX_UNCONFIRMED


def test_failures_count_if_they_affect_other_callers_too() -> None:
    scene = Scene()
    scene.serves(EVE)
    scene.serves(BOB)
    assert [scene.fails(EVE) for _ in range(4)] == [True, True, False, False]
    assert scene.fails(BOB)
    assert all(scene.fails(EVE) for _ in range(5))
    scene.serves(BOB)
    assert not scene.fails(EVE)


def test_inactive_callers_are_forgotten() -> None:
    scene = Scene()
    scene.serves(BOB)
    assert [scene.fails(EVE) for _ in range(3)] == [True, True, False]
    scene.now += MEMORY_SECONDS
    assert all(scene.fails(EVE) for _ in range(5))


@pytest.mark.parametrize(
    "error", [ConnectionFailed, ConnectTimeout, RateLimited, UpstreamOverloaded]
)
def test_failures_that_no_request_can_provoke_count_in_full(error: type[UpstreamError]) -> None:
    scene = Scene()
    scene.serves(BOB)
    assert all(scene.fails(EVE, error) for _ in range(9))


def test_targets_are_independent_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TARGETS", 2)
    monkeypatch.setattr(module, "MAX_CALLERS", 2)
    scene = Scene()
    for target in ("a", "b", "c"):
        for name in ("x", "y", "z"):
            scene.serves((name, ""), target)
    assert scene.attribution.remembered_callers == {"b": 2, "c": 2}
    assert all(scene.fails(EVE, at="d") for _ in range(9))


@in_virtual_time
async def test_the_executor_attributes_failures() -> None:
    breakers = Breakers()
    world = World(breakers)
    eve, bob = Caller("eve"), Caller("bob")
    for _ in range(6):
        world.script("a", text("Hello"), refusal(500))
        await world.executor.complete(TextOperation(), plan_for("a"), Call("r", bob, 1e9))
        with pytest.raises(AllTargetsFailed):
            await world.executor.complete(TextOperation(), plan_for("a"), Call("r", eve, 1e9))
    assert breakers.words.count("a server_failed") == MAX_UNCONFIRMED
    assert breakers.words.count("a released") == 6 - MAX_UNCONFIRMED
