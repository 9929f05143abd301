"""One caller's request, whatever it holds, changes nothing for the requests of others."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import connections
from msgspec.structs import replace

from llm_routing import BaseLLMRouter, close_routers, get_llm_router
from llm_routing.core.errors import AllTargetsRateLimited, LLMError, RequestRejected
from llm_routing.core.types import Caller
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.health.monitor import health_monitor
from llm_routing.models import ModelConfig, RouteTarget

from .conftest import MODELS, Answer, Upstream, add_provider, add_route, completion, in_thread

FIRST = "/first/chat/completions"
CLAUDE, COUNT = "/claude/v1/messages", "/claude/v1/messages/count_tokens"
GOOD = Answer(body=completion())
MESSAGE = Answer(
    body={
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "pong"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
)


@pytest.fixture
async def router(clean_process: None, upstream: Upstream) -> AsyncIterator[BaseLLMRouter]:
    """`debugging` leads to `first` and then `second`, `documentation` to `claude` and `second`."""
    upstream.needs_key = False

    def configure() -> None:
        for name in ("first", "second"):
            add_provider(name, f"{upstream.url}/{name}")
            upstream.answers[f"/{name}/models"] = Answer(body=MODELS)
            upstream.answers[f"/{name}/chat/completions"] = GOOD
        add_provider("claude", f"{upstream.url}/claude", vendor="anthropic")
        upstream.answers[CLAUDE] = MESSAGE
        add_route("first/alpha", "second/alpha")
        add_route("claude/alpha", "second/alpha", use_case="documentation")
        add_route("first/alpha", use_case="alone")
        # The thread outlives the test, and with it a connection of the pool.
        connections.close_all()

    await in_thread(configure)
    yield await get_llm_router()
    await close_routers()


async def chat(router: BaseLLMRouter, use_case: str = "debugging", **more: Any) -> str:
    """Returns the provider that answered a request in OpenAI's format."""
    body = {"model": use_case, "messages": [{"role": "user", "content": "Hi"}], **more}
    answer = await router.respond(OpenAIChat().read_request(body), Caller(), "r1")
    return answer.provider


async def message(router: BaseLLMRouter, **more: Any) -> str:
    """Returns the provider that answered a request in Anthropic's format."""
    body = {
        "model": "documentation",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
        **more,
    }
    answer = await router.respond(AnthropicMessages().read_request(body), Caller(), "r1")
    return answer.provider


def nothing_is_known() -> bool:
    return (
        not health_monitor.target_health.unhealthy
        and not health_monitor.credential_breakers.statuses()
    )


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("words", ["incorrect api key", "insufficient credits", "invalid model"])
async def test_a_field_that_is_named_like_a_failure(
    router: BaseLLMRouter, upstream: Upstream, words: str, status: int
) -> None:
    messages = (f"Unknown parameter: '{words}'.", f"{words}: Extra inputs are not permitted", words)
    for said in messages:
        upstream.answers[FIRST] = Answer(status, {"error": {"message": said}})
        for _ in range(6):
            with suppress(RequestRejected):
                more: dict[str, Any] = {words: 1}
                await chat(router, **more)
        assert upstream.count(FIRST) >= 6
        upstream.answers[FIRST] = GOOD
        assert await chat(router) == "first"
    assert nothing_is_known()


async def test_error_text_of_anthropic_that_a_caller_can_write(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    said = "tools.0.name: credit balance is too low"
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": said}}
    upstream.answers[CLAUDE] = Answer(400, error)
    for _ in range(6):
        assert await message(router) == "second"
    upstream.answers[CLAUDE] = MESSAGE
    assert await message(router) == "claude"
    assert nothing_is_known()


async def test_an_account_without_money_disables_the_credential(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    said = (
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing "
        "to upgrade or purchase credits."
    )
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": said}}
    upstream.answers[CLAUDE] = Answer(400, error)
    assert await message(router, system="Upgrade or purchase credits.") == "second"
    assert nothing_is_known(), "the caller wrote a part of it"
    assert await message(router) == "second"
    (status,) = health_monitor.credential_breakers.statuses().values()
    assert (status.state.value, status.cause) == ("open", "quota_exhausted")
    asked = upstream.count(CLAUDE)
    assert await message(router) == "second"
    assert upstream.count(CLAUDE) == asked


@pytest.mark.parametrize(
    "error",
    [
        {"message": "No such File object: file-1", "code": "file_not_found"},
        {"message": "The model `alpha` does not exist: file-1"},
        {"message": "model: alpha", "type": "not_found_error"},
    ],
)
async def test_a_file_that_does_not_exist(
    router: BaseLLMRouter, upstream: Upstream, error: Any
) -> None:
    upstream.answers[FIRST] = Answer(404, {"error": error})
    file = {"type": "file", "file": {"file_id": error["message"]}}
    for _ in range(6):
        with suppress(RequestRejected):
            await chat(router, messages=[{"role": "user", "content": [file]}])
    upstream.answers[FIRST] = GOOD
    assert await chat(router) == "first"
    assert nothing_is_known()


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("body", [{"detail": "Not Found"}, b"", {"error": {"message": "No."}}])
async def test_a_vendor_that_does_not_count_tokens_has_them_estimated(
    router: BaseLLMRouter, upstream: Upstream, status: int, body: Any
) -> None:
    upstream.answers[COUNT] = Answer(status, body)
    asked = {"model": "documentation", "messages": [{"role": "user", "content": "Hi"}]}
    for _ in range(6):
        request = AnthropicMessages().read_count_tokens_request(asked)
        count = await router.count_tokens(request, Caller(), "r1")
        assert (count.input_tokens, count.estimated) == (1, True)
    assert await message(router) == "claude"
    assert nothing_is_known()
    assert router.get_metrics()["breakers_open"] == 0


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_counting_tokens_does_not_change_the_health_of_a_target(
    router: BaseLLMRouter, upstream: Upstream, status: int
) -> None:
    upstream.answers[COUNT] = Answer(status, {"error": {"message": "No."}})
    asked = {"model": "documentation", "messages": [{"role": "user", "content": "Hi"}]}
    request = AnthropicMessages().read_count_tokens_request(asked)
    for _ in range(6):
        assert (await router.count_tokens(request, Caller(), "r1")).estimated
    assert await message(router) == "claude"
    assert nothing_is_known()

    # Nor does a count heal a model that is gone.
    upstream.answers[COUNT] = Answer(body={"input_tokens": 7})
    request = replace(request, model="claude/alpha")
    gone = {"type": "error", "error": {"type": "not_found_error", "message": "model: alpha"}}
    upstream.answers[CLAUDE] = Answer(404, gone)
    assert await message(router) == "second"
    assert health_monitor.target_health.unhealthy == {"claude/alpha"}
    assert (await router.count_tokens(request, Caller(), "r1")).input_tokens == 7
    assert health_monitor.target_health.unhealthy == {"claude/alpha"}


async def test_a_request_that_exceeds_the_account_s_balance(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    said = "This request requires more credits, or fewer max_tokens. You can only afford 12."
    upstream.answers[FIRST] = Answer(402, {"error": {"message": said, "code": 402}})
    assert await chat(router, max_tokens=1_000_000) == "second"
    upstream.answers[FIRST] = GOOD
    assert await chat(router) == "first"
    assert nothing_is_known()


async def test_a_vendor_s_limit_is_reported_to_in_process_callers(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    for name, wait in (("first", "55"), ("second", "50")):
        upstream.answers[f"/{name}/chat/completions"] = Answer(
            429, {"error": {"message": "Slow down."}}, headers={"Retry-After": wait}
        )
    with pytest.raises(AllTargetsRateLimited) as caught:
        await router.complete("Hi", use_case="debugging", timeout=40)
    assert (caught.value.http_status, caught.value.retry_after) == (429, 50)
    assert len(caught.value.attempts) == 2


async def test_the_next_target_is_tried_if_a_feature_is_rejected(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    error = {"message": "x", "type": "invalid_request_error", "param": "seed"}
    upstream.answers[FIRST] = Answer(400, {"error": {**error, "code": "unsupported_parameter"}})
    assert await chat(router, seed=1) == "second"
    upstream.answers[FIRST] = Answer(400, {"error": {**error, "code": "invalid_value"}})
    with pytest.raises(RequestRejected) as caught:
        await chat(router, seed=1)
    assert len(caught.value.attempts) == 1
    told = json.loads(OpenAIChat().write_error(caught.value, "r1"))["error"]
    assert (told["code"], told["param"]) == ("invalid_value", "seed")
    # The gateway wrote it for a caller of another format, or for one in process.
    assert await message_to_openai(router) == "second"
    assert (await router.complete("Hi", use_case="debugging")).provider == "second"
    assert nothing_is_known()


async def message_to_openai(router: BaseLLMRouter) -> str:
    return await message(router, model="debugging")


async def test_if_all_targets_reject_the_first_vendor_s_reason_is_returned(
    router: BaseLLMRouter, upstream: Upstream
) -> None:
    for name in ("first", "second"):
        upstream.answers[f"/{name}/chat/completions"] = Answer(
            400, {"error": {"message": f"{name} says no."}}
        )
    with pytest.raises(RequestRejected, match="first says no") as caught:
        await message_to_openai(router)
    assert len(caught.value.attempts) == 2


async def test_targets_of_one_route_only(router: BaseLLMRouter, upstream: Upstream) -> None:
    """A request for vectors to a model that cannot embed fails; chat goes on."""
    await ModelConfig.objects.all().aupdate(capabilities=[])
    assert await RouteTarget.objects.aexists()
    upstream.answers["/first/embeddings"] = Answer(404, {"error": "model 'alpha' not found"})
    with pytest.raises(Exception, match="failed"):
        await router.embed("Hi", use_case="alone")
    assert await chat(router) == "first"
    assert nothing_is_known()


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf"}},
    ],
)
async def test_a_count_over_another_vendor_counts_images_and_documents(
    router: BaseLLMRouter, part: Any
) -> None:
    part["source"]["data"] = "A" * 4000
    asked = {"model": "alone", "messages": [{"role": "user", "content": [part]}]}
    request = AnthropicMessages().read_count_tokens_request(asked)
    assert (await router.count_tokens(request, Caller(), "r1")).input_tokens >= 50


@pytest.mark.parametrize(
    "answer", [Answer(500, {"error": {"message": "Broken."}}), Answer(200, b"<html>")]
)
async def test_requests_that_always_break_a_target_do_not_block_others(
    router: BaseLLMRouter, upstream: Upstream, answer: Answer
) -> None:
    body = {"model": "debugging", "messages": [{"role": "user", "content": "Hi"}]}
    request = OpenAIChat().read_request(body)
    eve, bob = Caller("acme", "eve"), Caller("acme", "bob")
    for _ in range(8):
        upstream.answers[FIRST] = GOOD
        assert (await router.respond(request, bob, "r1")).provider == "first"
        upstream.answers[FIRST] = answer
        for _ in range(3):
            assert (await router.respond(request, eve, "r1")).provider == "second"
    assert nothing_is_known()
    assert router.get_metrics()["breakers_open"] == 0

    # It fails for the others too.
    for _ in range(8):
        for caller in (eve, bob):
            await router.respond(request, caller, "r1")
    assert health_monitor.target_health.unhealthy or router.get_metrics()["breakers_open"]


WORDS = (
    "incorrect api key",
    "insufficient quota",
    "' insufficient credits '",
    "credit balance is too low",
    "specified API usage limits",
    "The model `alpha` does not exist",
    "model: alpha",
    "model 'alpha' not found",
    "alpha is not a valid model",
    "api key expired",
    "invalid_api_key",
    "insufficient_quota",
    "model_not_found",
    "authentication_error",
)


def echoes(words: str) -> list[Any]:
    """Errors that repeat a caller's text, in the shapes of vendors."""
    raw = json.dumps({"error": {"message": words, "code": "invalid_api_key", "type": words}})
    return [
        {"error": {"message": words, "type": "invalid_request_error", "param": words}},
        {"error": {"message": f"Invalid value: '{words}'.", "code": "invalid_value"}},
        {"error": {"message": f"{words} not found", "code": "file_not_found"}},
        {"error": {"message": "Provider returned error", "metadata": {"raw": raw}}},
        {"error": words},
        {"detail": words},
        {"detail": [{"loc": ["body", words], "msg": f"{words} not found", "type": "missing"}]},
        {"message": words, "object": "error"},
        {"type": "error", "error": {"type": "invalid_request_error", "message": words}},
        {"type": "error", "error": {"type": "not_found_error", "message": words}},
        words,
    ]


PLACES = ("field", "prompt", "tool", "file")


@pytest.mark.parametrize("where", PLACES)
async def test_echoed_caller_text_changes_no_shared_state(
    router: BaseLLMRouter, upstream: Upstream, where: str
) -> None:
    eve = Caller("acme", "eve")
    for number, words in enumerate(WORDS):
        for place, error in enumerate(echoes(words)):
            if (number + place) % len(PLACES) != PLACES.index(where):
                # All pairs at all places are for the unit tests.
                continue
            status = (400, 403, 404, 409, 422)[(number + place) % 5]
            content: Any = (
                [{"type": "file", "file": {"file_id": words}}] if where == "file" else words
            )
            body: dict[str, Any] = {"model": "debugging"}
            body["messages"] = [
                {"role": "user", "content": content if where in ("prompt", "file") else "Hi"}
            ]
            if where == "field":
                body[words] = 1
            if where == "tool":
                body["tools"] = [{"type": "function", "function": {"name": words}}]
            for path in (FIRST, CLAUDE):
                upstream.answers[path] = Answer(status, error)
            for model in ("debugging", "documentation"):
                request = OpenAIChat().read_request({**body, "model": model})
                with suppress(LLMError):
                    await router.respond(request, eve, "r1")
            assert nothing_is_known(), (words, error, status)
    for path, good in ((FIRST, GOOD), (CLAUDE, MESSAGE)):
        upstream.answers[path] = good
    assert (await chat(router), await message(router)) == ("first", "claude")
    assert router.get_metrics()["breakers_open"] == 0
