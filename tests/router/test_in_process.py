"""In-process calls: answers, streams, sent requests and records."""

import asyncio
import copy
from contextlib import aclosing
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest

from llm_routing import BaseLLMRouter, RouterConfig, close_routers, get_llm_router
from llm_routing.core.errors import (
    AllTargetsFailed,
    InvalidRequest,
    LLMError,
    RequestRejected,
    UnknownModel,
)
from llm_routing.core.events import AnswerEnded, TextDelta, UsageReported
from llm_routing.core.types import AttemptOutcome
from llm_routing.models import ModelConfig, Provider, RouteTarget, UsageRecord, UseCaseRoute

from .conftest import Configuration

REFUSED = "http://127.0.0.1:9/v1"


async def test_an_answer_names_its_target_and_cost(router: BaseLLMRouter) -> None:
    answer = await router.complete("Hello there", use_case="debugging", tier="standard")
    assert "Hello there" in answer.content
    assert (answer.provider, answer.model) == ("first", "alpha")
    assert (answer.routing.use_case, answer.routing.tier) == ("debugging", "standard")
    usage = answer.usage
    assert answer.cost == (usage.input_tokens * Decimal(2) + usage.output_tokens * 10) / 1_000_000
    assert answer.dict()["content"] == answer.content


async def test_every_attempt_is_in_the_ledger_when_the_routers_are_closed(
    router: BaseLLMRouter, configuration: Configuration
) -> None:
    configuration.first.base_url = REFUSED
    await configuration.first.asave()
    answer = await router.complete("Hello", use_case="debugging", tenant="acme")
    await close_routers()
    records = [record async for record in UsageRecord.objects.order_by("attempt")]
    assert [(r.provider, r.outcome, r.error_code) for r in records] == [
        ("first", "failure", "connection_failed"),
        ("first", "failure", "connection_failed"),
        ("second", "success", ""),
    ]
    assert {r.request_id for r in records} == {answer.routing.request_id}
    assert {r.tenant for r in records} == {"acme"}
    assert records[2].input_tokens == answer.usage.input_tokens


async def test_the_route_s_system_prompt_is_added_only_if_the_caller_sent_none(
    router: BaseLLMRouter,
) -> None:
    with_route_s = await router.complete("Hi", use_case="debugging")
    assert "Find the root cause." in with_route_s.content
    messages = [
        {"role": "system", "content": "Speak like a pirate."},
        {"role": "user", "content": "Hi"},
    ]
    before = copy.deepcopy(messages)
    with_callers = await router.complete(messages, use_case="debugging")
    assert messages == before
    assert "Speak like a pirate." in with_callers.content
    assert "Find the root cause." not in with_callers.content
    overridden = await router.complete(
        "Hi", use_case="debugging", system_prompt_override="Be brief."
    )
    assert "Be brief." in overridden.content
    with pytest.raises(InvalidRequest):
        await router.complete(messages, use_case="debugging", system_prompt_override="Be brief.")


async def test_a_model_is_addressed_directly_by_alias_and_by_use_case_and_tier(
    router: BaseLLMRouter,
) -> None:
    for address in ("second/beta", "the-best", "debugging", "debugging:standard"):
        answer = await router.complete("Hi", model_override=address)
        assert answer.model == ("beta" if address == "second/beta" else "alpha")
    premium = await router.complete("Hi", use_case="debugging", tier="premium")
    assert premium.routing.tier == "standard"
    with pytest.raises(UnknownModel, match="debugging"):
        await router.complete("Hi", use_case="gardening")


class OldUseCase(str, Enum):  # noqa: UP042  # what old code has, and formats otherwise
    TRIAGE = "ticket_triage"


class OldTier(str, Enum):  # noqa: UP042  # the same
    STANDARD = "standard"


async def test_enumerations_of_the_caller_s_own_name_use_cases(
    router: BaseLLMRouter, configuration: Configuration
) -> None:
    route = await UseCaseRoute.objects.acreate(use_case="ticket_triage", tier="standard")
    await route.targets.acreate(model=configuration.model, position=0)
    response = await router.complete("Hi", OldUseCase.TRIAGE, OldTier.STANDARD)
    assert (response.routing.use_case, response.routing.tier) == ("ticket_triage", "standard")


async def test_a_dead_provider_fails_over_and_a_dead_route_lists_the_attempts(
    router: BaseLLMRouter, configuration: Configuration
) -> None:
    await Provider.objects.filter(name="first").aupdate(base_url=REFUSED)
    answer = await router.complete("Hi", use_case="debugging")
    assert [attempt.outcome for attempt in answer.routing.attempts] == [
        AttemptOutcome.FAILURE,
        AttemptOutcome.FAILURE,
        AttemptOutcome.SUCCESS,
    ]
    await Provider.objects.aupdate(base_url=REFUSED)
    with pytest.raises(AllTargetsFailed) as caught:
        await router.complete("Hi", use_case="debugging")
    assert [attempt.provider for attempt in caught.value.attempts] == [
        "first",
        "first",
        "second",
        "second",
    ]


async def test_a_rejection_reaches_the_caller_without_failover(
    router: BaseLLMRouter,
) -> None:
    with pytest.raises(RequestRejected) as caught:
        await router.complete("[[status=422]]", use_case="debugging")
    assert len(caught.value.attempts) == 1


async def test_a_stream_yields_typed_events_and_ends_with_the_whole_answer(
    router: BaseLLMRouter,
) -> None:
    events = [event async for event in router.stream("One two three", use_case="debugging")]
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "One two three" in text
    assert any(isinstance(event, UsageReported) for event in events)
    last = events[-1]
    assert isinstance(last, AnswerEnded)
    assert last.response is not None
    assert last.response.content == text
    assert last.response.cost is not None
    assert last.response.cost > 0


async def test_an_abandoned_stream_is_recorded_as_cancelled(router: BaseLLMRouter) -> None:
    async with aclosing(
        router.stream("[[token_delay=0.05]] a long answer", use_case="debugging")
    ) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    await close_routers()
    record = await UsageRecord.objects.aget()
    assert (record.outcome, record.is_estimated) == ("cancelled", True)
    assert record.input_tokens > 0


async def test_a_tool_call_and_its_result_make_a_round_trip(router: BaseLLMRouter) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    asked = await router.complete_with_tools(
        "What is the weather?", [tool], use_case="debugging", tool_choice="required"
    )
    (call,) = asked.tool_calls
    assert call.name == "get_weather"
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "What is the weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "22 degrees"},
    ]
    answer = await router.complete_with_tools(messages, [tool], use_case="debugging")
    assert "22 degrees" in answer.content


async def test_embeddings_are_returned_in_order(router: BaseLLMRouter) -> None:
    both = await router.embed(["a", "b"], model="second/vectors")
    alone = await router.embed("b", model="second/vectors")
    assert len(both.vectors) == 2
    assert both.vectors[1] == alone.vectors[0]
    assert both.vectors[0] != both.vectors[1]
    with pytest.raises(InvalidRequest):
        await router.embed("a", model="first/alpha")


async def test_a_configuration_change_applies_at_once_however_it_was_made(
    router: BaseLLMRouter, configuration: Configuration
) -> None:
    async def who() -> str:
        return (await router.complete("Hi", use_case="debugging")).model

    assert await who() == "alpha"
    await ModelConfig.objects.filter(model_id="alpha").aupdate(is_active=False)
    assert await who() == "beta"
    configuration.model.is_active = True
    await configuration.model.asave()
    assert await who() == "alpha"
    await RouteTarget.objects.filter(model=configuration.model).adelete()
    assert await who() == "beta"
    await UseCaseRoute.objects.acreate(use_case="debugging", tier="economy")
    with pytest.raises(UnknownModel):
        await router.complete("Hi", use_case="gardening")


async def test_a_request_s_timeout_limits_the_whole_call(router: BaseLLMRouter) -> None:
    with pytest.raises(LLMError) as caught:
        await router.complete("[[delay=60]]", use_case="debugging", timeout=0.5)
    assert caught.value.http_status == 504


async def test_concurrent_first_calls_build_one_router(
    configuration: Configuration, clean_process: None, connections_given_back: None
) -> None:
    routers: list[BaseLLMRouter] = await asyncio.gather(*(get_llm_router() for _ in range(20)))
    assert len({id(router) for router in routers}) == 1
    other = await get_llm_router(config=RouterConfig(default_use_case="debugging"))
    assert other is not routers[0]
    assert (await other.complete("Hi")).routing.use_case == "debugging"
    await close_routers()
    assert await get_llm_router() is not routers[0]
    await close_routers()


async def test_a_closed_router_is_not_returned_again(router: BaseLLMRouter) -> None:
    async with await get_llm_router(config=RouterConfig(default_tier="economy")) as mine:
        assert await get_llm_router(config=RouterConfig(default_tier="economy")) is mine
    assert await get_llm_router(config=RouterConfig(default_tier="economy")) is not mine


@pytest.mark.parametrize("dynamic", [True, False])
async def test_a_closed_router_opens_no_connection(router: BaseLLMRouter, dynamic: bool) -> None:
    kept = await get_llm_router(dynamic=dynamic)
    await close_routers()
    with pytest.raises(RuntimeError, match="closed"):
        await kept.complete("Hi", use_case="debugging")
    with pytest.raises(RuntimeError, match="closed"):
        await anext(aiter(kept.stream("Hi", use_case="debugging")))
    with pytest.raises(RuntimeError, match="closed"):
        await kept.discover_available_models()
    answer = await (await get_llm_router()).complete("Hi", use_case="debugging")
    assert answer.content


async def test_a_router_does_not_expose_credentials(
    configuration: Configuration, router: BaseLLMRouter
) -> None:
    """Code that has a router can send requests but cannot read the providers' keys."""
    public = [name for name in dir(router) if not name.startswith("_")]
    assert "get" not in public
    assert "snapshot" not in public
    for name in public:
        value = getattr(router, name)
        assert not hasattr(value, "credentials")
