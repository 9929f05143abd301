"""Relays the caller's own body to vendors of OpenAI Chat Completions."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.quirks import ModelQuirk
from llm_routing.core.types import LLMRequest
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from tests.formats.openai_chat.written_requests import build, target


def from_body(**fields: Any) -> LLMRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return OpenAIChat().read_request(body)


class TestOwnFormat:
    """The caller's own body is relayed with only the necessary changes."""

    def test_the_request_goes_to_the_chat_endpoint(self) -> None:
        _, wire = build(from_body())
        assert (wire.method, wire.path) == ("POST", "/chat/completions")
        assert wire.headers["content-type"] == "application/json"
        assert wire.ignored == ()

    @given(
        st.dictionaries(
            st.text(min_size=1).map("x_{}".format),
            st.recursive(
                st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                max_leaves=8,
            ),
            max_size=4,
        )
    )
    def test_unknown_fields_reach_the_vendor_and_nothing_is_mutated(
        self, unknown: dict[str, Any]
    ) -> None:
        message = {"role": "developer", "content": [{"type": "video", "x": unknown}], **unknown}
        body = {"model": "m", "messages": [message], "logit_bias": {"1": 2}, **unknown}
        before = copy.deepcopy(body)
        request = replace(OpenAIChat().read_request(body), system_prompt="S", temperature=0.1)
        sent, _ = build(request, target(developer_role=False, limit_field="max_completion_tokens"))
        assert body == before
        assert sent == {
            **before,
            "model": "big-1",
            "temperature": 0.1,
            "messages": [{"role": "system", "content": "S"}, {**message, "role": "system"}],
        }

    def test_values_of_the_caller_take_precedence_over_the_route(self) -> None:
        request = replace(from_body(temperature=0.9, max_tokens=5), temperature=0.1, max_tokens=50)
        sent, _ = build(request)
        assert (sent["temperature"], sent["max_tokens"]) == (0.9, 5)

    def test_route_defaults_fill_absent_fields(self) -> None:
        request = replace(
            from_body(temperature=None),
            temperature=0.0,
            top_p=0.5,
            max_tokens=50,
            seed=0,
            frequency_penalty=0.1,
            presence_penalty=0.2,
        )
        sent, _ = build(request)
        assert sent["temperature"] == 0.0
        assert (sent["top_p"], sent["max_tokens"], sent["seed"]) == (0.5, 50, 0)
        assert (sent["frequency_penalty"], sent["presence_penalty"]) == (0.1, 0.2)

    def test_the_routes_limit_is_reduced_to_the_models(self) -> None:
        request = replace(from_body(), max_tokens=5000)
        assert build(request, target(limit=100))[0]["max_tokens"] == 100
        sent, wire = build(from_body(max_tokens=5000), target(limit=100))
        assert sent["max_tokens"] == 100
        assert wire.ignored == ("max_tokens",)

    def test_extra_fields_of_in_process_callers_are_sent_unchanged(self) -> None:
        sent, _ = build(replace(from_body(), extra={"service_tier": "flex", "model": "no"}))
        assert (sent["service_tier"], sent["model"]) == ("flex", "big-1")

    @pytest.mark.parametrize("said", ["max_tokens", "max_completion_tokens"])
    def test_the_limit_has_the_vendors_field_name(self, said: str) -> None:
        request = from_body(**{said: 7})
        assert build(request)[0].get("max_tokens") == 7
        assert "max_completion_tokens" not in build(request)[0]
        sent, _ = build(request, target(limit_field="max_completion_tokens"))
        assert sent.get("max_completion_tokens") == 7
        assert "max_tokens" not in sent

    def test_the_route_adds_no_limit_to_the_callers(self) -> None:
        request = replace(from_body(max_completion_tokens=7), max_tokens=9)
        assert build(request)[0]["max_tokens"] == 7

    def test_the_newer_field_of_two_limits_takes_precedence(self) -> None:
        request = from_body(max_completion_tokens=7, max_tokens=9)
        assert (
            build(request, target(limit_field="max_completion_tokens"))[0]["max_completion_tokens"]
            == 7
        )
        assert build(request)[0]["max_tokens"] == 7

    def test_a_streamed_request_asks_for_usage(self) -> None:
        options = {"include_usage": False, "include_obfuscation": False}
        sent, _ = build(from_body(stream=True, stream_options=options))
        assert sent["stream"] is True
        assert sent["stream_options"] == {"include_usage": True, "include_obfuscation": False}

    def test_stream_usage_is_not_requested_if_the_vendor_refuses_the_option(self) -> None:
        request = from_body(stream=True, stream_options={"include_usage": True})
        sent, _ = build(request, target(stream_usage=False))
        assert sent["stream"] is True
        assert "stream_options" not in sent

    def test_a_non_streamed_request_has_no_stream_fields(self) -> None:
        request = replace(from_body(stream=True, stream_options={}), stream=False)
        sent, _ = build(request)
        assert "stream" not in sent
        assert "stream_options" not in sent

    def test_sampling_is_removed_for_a_model_that_refuses_it(self) -> None:
        request = from_body(temperature=0.5, top_p=0.5)
        sent, wire = build(request, target(model_quirks=(ModelQuirk.NO_SAMPLING,)))
        assert "temperature" not in sent
        assert "top_p" not in sent
        assert wire.ignored == ("temperature", "top_p")

    def test_a_routes_temperature_is_left_out_without_being_named(self) -> None:
        request = replace(from_body(), temperature=0.5)
        sent, wire = build(request, target(model_quirks=(ModelQuirk.NO_SAMPLING,)))
        assert "temperature" not in sent
        assert wire.ignored == ()

    def test_a_body_that_cannot_be_encoded_is_rejected(self) -> None:
        with pytest.raises(UnsupportedRequest):
            build(replace(from_body(), extra={"x": "\ud800"}))
