"""Idempotency keys of in-process calls."""

from typing import Any

import pytest

from llm_routing import BaseLLMRouter, close_routers
from llm_routing.core.errors import IdempotencyKeyReused, InvalidRequest
from llm_routing.core.events import AnswerEnded
from llm_routing.models import UsageRecord

from .conftest import Upstream

TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}

pytestmark = pytest.mark.usefixtures("without_redis")


@pytest.fixture
def without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)


async def test_a_repeated_call_gets_the_same_answer_at_no_cost(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    def ask(key: str = "k", **more: Any) -> Any:
        return router.complete("Hello", use_case="debugging", idempotency_key=key, **more)

    first = await ask()
    second = await ask(timeout=100, metadata={"try": "2"}, cache=False)
    assert second.completion == first.completion
    assert (first.routing.replayed, second.routing.replayed) == (False, True)
    assert (second.cost, second.routing.attempts) == (0, ())
    assert not (await ask(tenant="other")).routing.replayed
    assert not (await ask("l")).routing.replayed
    assert await upstream.calls() == 3
    assert router.get_metrics()["idempotent_replays_total"] == 1
    await close_routers()
    assert await UsageRecord.objects.acount() == 3


@pytest.mark.parametrize(
    "change",
    [
        {"messages": "Another"},
        {"tier": "standard"},
        {"temperature_override": 0.5},
        {"system_prompt_override": "Be brief."},
        {"seed": 7},
    ],
    ids=str,
)
async def test_a_call_with_other_arguments_under_the_same_key_is_refused(
    router: BaseLLMRouter, upstream: Upstream, change: dict[str, Any]
) -> None:
    call: dict[str, Any] = {"messages": "Hi", "use_case": "debugging", "idempotency_key": "k"}
    await router.complete(**call)
    with pytest.raises(IdempotencyKeyReused):
        await router.complete(**(call | change))
    assert await upstream.calls() == 1


async def test_streams_tools_and_embeddings_have_keys_too(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    first, second = [
        [event async for event in router.stream("Hi", "debugging", idempotency_key="s")]
        for _ in range(2)
    ]
    assert second[:-1] == first[:-1]
    assert isinstance(second[-1], AnswerEnded)
    assert second[-1].response is not None
    assert second[-1].response.routing.replayed
    calls = [
        await router.complete_with_tools(
            "Hi", [TOOL], "debugging", tool_choice="required", idempotency_key="t"
        )
        for _ in range(2)
    ]
    assert calls[0].tool_calls
    assert calls[1].tool_calls == calls[0].tool_calls
    vectors = [
        await router.embed(["a", "b"], model="second/vectors", idempotency_key="v")
        for _ in range(2)
    ]
    assert vectors[1].vectors == vectors[0].vectors
    assert vectors[1].routing.replayed
    with pytest.raises(IdempotencyKeyReused):
        await router.embed(["a"], model="second/vectors", idempotency_key="v")
    assert await upstream.calls() == 3


async def test_an_invalid_key_or_request_is_refused(router: BaseLLMRouter) -> None:
    with pytest.raises(InvalidRequest, match="255"):
        await router.complete("Hi", idempotency_key="")
    with pytest.raises(InvalidRequest):
        await router.embed("\ud800", idempotency_key="k")
