"""Relays the caller's own body to vendors of Anthropic Messages."""

import copy
import json
from typing import Any

import pytest
from msgspec.structs import replace

from llm_routing.core.content import (
    Tool,
)
from llm_routing.core.errors import InvalidRequest
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.types import LLMRequest, Source
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from tests.formats.anthropic_messages.requests import FORMAT, ask, body, said, sent, target, user


class TestACallersOwnBody:
    def test_only_the_model_is_changed(self) -> None:
        original = body(
            system=[{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}],
            future={"deep": [1, {"x": None}]},
            stream=True,
        )
        before = copy.deepcopy(original)

        built, ignored = sent(FORMAT.read_request(original))

        assert built == {**before, "model": "claude-x"}
        assert original == before
        assert ignored == ()

    def test_the_stream_field_follows_the_request(self) -> None:
        request = FORMAT.read_request(body(stream=False))

        assert "stream" not in sent(request)[0]

    def test_route_defaults_are_added(self) -> None:
        parsed = FORMAT.read_request(body())
        request = LLMRequest(
            parsed.messages,
            source=parsed.source,
            system_prompt="Be brief.",
            temperature=1.7,
            max_tokens=100,
            extra={"service_tier": "auto"},
        )

        built, _ = sent(request)

        assert built["system"] == "Be brief."
        assert built["temperature"] == 1.0
        assert built["service_tier"] == "auto"

    @pytest.mark.parametrize(
        "own", [{"thinking": {"type": "adaptive"}}, {"top_p": 0.5}, {"temperature": 0.2}]
    )
    def test_a_routes_temperature_is_dropped_if_it_conflicts(self, own: dict[str, Any]) -> None:
        parsed = FORMAT.read_request(body(**own))
        request = LLMRequest(parsed.messages, source=parsed.source, temperature=0.7)

        assert sent(request)[0].get("temperature") == own.get("temperature")

    def test_sampling_is_removed_and_named_for_a_model_without_it(self) -> None:
        request = FORMAT.read_request(body(temperature=0.2, top_k=3))

        built, ignored = sent(request, target("no_sampling"))

        assert "temperature" not in built
        assert "top_k" not in built
        assert ignored == ("temperature", "top_k")

    def test_a_missing_max_tokens_is_added(self) -> None:
        without = {key: value for key, value in body().items() if key != "max_tokens"}
        request = LLMRequest((user("Hi"),), source=Source("anthropic_messages", without))

        assert sent(request, target(max_output_tokens=64))[0]["max_tokens"] == 64

    def test_unsigned_thinking_of_other_vendors_is_removed(self) -> None:
        unsigned = {"type": "thinking", "thinking": "Hm", "signature": ""}
        signed = {"type": "thinking", "thinking": "Hm", "signature": "sig"}
        text = {"type": "text", "text": "A"}
        original = said(
            ("user", "Hi"),
            ("assistant", [unsigned, signed, text]),
            ("assistant", [unsigned]),
            ("user", [text]),
            ("assistant", []),
        )
        before = copy.deepcopy(original)

        built, _ = sent(FORMAT.read_request(original))

        assert [message["content"] for message in built["messages"]] == [
            "Hi",
            [signed, text],
            [text],
            [],
        ]
        assert original == before

    def test_a_body_of_another_format_is_not_sent(self) -> None:
        request = ask(source=Source("openai_chat", {"model": "x", "future": 1}))

        assert "future" not in sent(request)[0]


class TestCountingTokens:
    def test_a_callers_body_needs_no_max_tokens_and_is_unchanged(self) -> None:
        counted = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "future": 1}

        request = FORMAT.read_count_tokens_request(counted)
        wire = FORMAT.write_count_tokens_request(request, target())

        assert request.max_tokens is None
        assert wire.path == "/v1/messages/count_tokens"
        assert wire.headers["anthropic-version"] == "2023-06-01"
        assert json.loads(wire.body) == {**counted, "model": "claude-x"}

    def test_a_route_adds_only_its_system_prompt(self) -> None:
        counted = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        parsed = FORMAT.read_count_tokens_request(counted)
        request = LLMRequest(
            parsed.messages, source=parsed.source, system_prompt="S", temperature=0.5
        )

        wire = FORMAT.write_count_tokens_request(request, target())

        assert json.loads(wire.body) == {**counted, "model": "claude-x", "system": "S"}

    def test_only_fields_that_affect_the_count_are_sent(self) -> None:
        request = ask(system_prompt="S", tools=(Tool("f"),), temperature=0.5, user="u")

        wire = FORMAT.write_count_tokens_request(request, target())

        assert json.loads(wire.body).keys() == {"model", "messages", "system", "tools"}

    def test_an_invalid_body_is_rejected(self) -> None:
        with pytest.raises(InvalidRequest):
            FORMAT.read_count_tokens_request({"model": "m"})


def test_the_beta_header_is_sent_only_to_vendors_of_the_format():
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    beta = {"anthropic-beta": "context-1m-2025-08-07"}
    parsed = AnthropicMessages().read_request(body)
    source = Source("anthropic_messages", body, beta)
    target = Target(ProviderSpec("p", "v", "anthropic_messages", "https://x"), ModelSpec("p", "m"))
    wire = AnthropicMessages().write_request(replace(parsed, source=source), target)
    assert wire.headers["anthropic-beta"] == "context-1m-2025-08-07"
    foreign = Source("openai_chat", body, beta)
    wire = AnthropicMessages().write_request(replace(parsed, source=foreign), target)
    assert "anthropic-beta" not in wire.headers
