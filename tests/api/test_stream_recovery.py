"""Streams that break after their caller has content: the route decides."""

import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from llm_routing.conf import get_settings
from llm_routing.models import ModelConfig, UseCaseRoute

from .conftest import Gateway

ENDPOINTS = ("chat", "message", "complete")


@sync_to_async
def recover(by: str) -> None:
    UseCaseRoute.objects.update(stream_recovery=by)


@sync_to_async
def make_able(*models: str) -> None:
    for model in ModelConfig.objects.filter(model_id__in=models):
        model.capabilities = [*model.capabilities, "prefill"]
        model.save()


def text_of(endpoint: str, body: str) -> str:
    """The text that a client of the format would have put together."""
    said = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    match endpoint:
        case "chat":
            deltas = [choice["delta"] for chunk in said for choice in chunk.get("choices", [])]
            return "".join(delta.get("content") or "" for delta in deltas)
        case "message":
            return "".join(event.get("delta", {}).get("text", "") for event in said)
        case _:
            return "".join(event.get("text", "") for event in said)


def has_failed(body: str) -> bool:
    return "event: error" in body or 'data: {"error"' in body


async def stream(gateway: Gateway, endpoint: str, text: str = "Hi") -> Any:
    response = await getattr(gateway, endpoint)(text, stream=True)
    assert response.status_code == 200, response.text
    return response


@pytest.mark.parametrize("endpoint", ENDPOINTS)
class TestError:
    async def test_a_broken_stream_ends_with_an_error_event(
        self, gateway: Gateway, endpoint: str
    ) -> None:
        gateway.sandbox.journal.script("cut_after=3")
        body = (await stream(gateway, endpoint)).text
        assert has_failed(body)
        assert text_of(endpoint, body)
        assert "[DONE]" not in body
        assert "message_stop" not in body
        assert "event: done" not in body


@pytest.mark.parametrize("endpoint", ENDPOINTS)
class TestContinue:
    async def test_another_model_continues_the_stream(
        self, gateway: Gateway, endpoint: str
    ) -> None:
        await recover("continue")
        await make_able("beta")
        gateway.sandbox.journal.script("cut_after=3", "echo_request")
        body = (await stream(gateway, endpoint)).text
        assert not has_failed(body)
        text = text_of(endpoint, body)
        begun, _, asked = text.partition("{")
        assert begun.startswith("This is org/alpha:1")
        # The sandbox repeats its input, so the partial answer comes last.
        sent = json.loads("{" + asked)
        assert sent["messages"][-1] == {"role": "assistant", "content": begun.rstrip()}

    async def test_a_target_without_prefill_is_not_called(
        self, gateway: Gateway, endpoint: str
    ) -> None:
        await recover("continue")
        gateway.sandbox.journal.script("cut_after=3")
        body = (await stream(gateway, endpoint)).text
        assert has_failed(body)
        assert len(gateway.sandbox.journal.entries) == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
class TestBuffer:
    async def test_a_broken_answer_is_never_sent(self, gateway: Gateway, endpoint: str) -> None:
        await recover("buffer")
        gateway.sandbox.journal.script("cut_after=3", "cut_after=3", "")
        response = await stream(gateway, endpoint)
        assert not has_failed(response.text)
        assert text_of(endpoint, response.text).startswith("This is beta")
        assert response.headers["x-llm-provider"] == "second"
        assert response.headers["x-llm-attempts"] == "3"

    async def test_signs_of_life_fill_the_time(
        self, gateway: Gateway, endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LLM_KEEP_ALIVE_INTERVAL", "0.1")
        get_settings.cache_clear()
        await recover("buffer")
        gateway.sandbox.journal.script("token_delay=0.3")
        response = await stream(gateway, endpoint)
        alive = "event: ping" if endpoint == "message" else ": keep-alive"
        first, *_ = response.text.partition("This")
        assert alive in first
        assert text_of(endpoint, response.text).startswith("This is org/alpha:1")
        assert "x-llm-provider" not in response.headers

    async def test_if_all_targets_fail_late_the_stream_ends_with_an_error(
        self, gateway: Gateway, endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LLM_KEEP_ALIVE_INTERVAL", "0.1")
        get_settings.cache_clear()
        await recover("buffer")
        gateway.sandbox.journal.script(*["token_delay=0.2 cut_after=2"] * 4)
        body = (await stream(gateway, endpoint)).text
        assert "all_targets_failed" in body
        assert text_of(endpoint, body) == ""

    async def test_if_all_targets_fail_early_the_response_is_an_error(
        self, gateway: Gateway, endpoint: str
    ) -> None:
        await recover("buffer")
        gateway.sandbox.journal.script(*["cut_after=2"] * 4)
        response = await getattr(gateway, endpoint)("Hi", stream=True)
        assert response.status_code == 502
