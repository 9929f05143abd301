"""Failures that move on to the next target, and those that end the chain."""

import json
from typing import Any

import pytest

from llm_routing.core.errors import (
    ContextTooLong,
    RequestRejected,
    ServerFailed,
    UpstreamError,
)
from llm_routing.core.routing_table import ModelSpec, Target
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.error_attribution import review
from llm_routing.formats.openai_chat.errors import error_in_answer
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.formats.vendor_messages import (
    MAX_READ_CHARACTERS,
)
from tests.formats.vendor_failures import ANTHROPIC, MODEL, OPENAI, chat, failure


class TestFailover:
    """A rejected request moves on if the gateway wrote the rejected part, or if a
    feature was rejected; it does not if the caller's own content was."""

    @pytest.mark.parametrize(
        ("error", "is_asked"),
        [
            ({"message": "Invalid image.", "param": "messages.0.content"}, False),
            ({"message": "Too many.", "param": "messages[3].content"}, False),
            ({"message": "Wrong.", "code": "invalid_value", "param": "temperature"}, False),
            ({"message": "x", "code": "unsupported_parameter", "param": "temperature"}, True),
            ({"message": "x", "code": "unsupported_value", "param": "temperature"}, True),
            ({"message": "x", "code": "invalid_value", "param": "max_completion_tokens"}, True),
            ({"message": "property 'store' is unsupported"}, True),
            ({"message": "'unsupported' is not one of 'text', 'json'"}, False),
        ],
    )
    def test_a_rejection_of_a_relayed_request_moves_on_if_it_is_about_a_feature(
        self, error: Any, is_asked: bool
    ) -> None:
        found = failure(400, {"error": error}, temperature=1)
        assert isinstance(found, RequestRejected)
        assert found.retryable_elsewhere is is_asked

    def test_a_pydantic_error_about_a_field_is_about_a_feature(self) -> None:
        detail = [{"loc": ["body", "store"], "msg": "No", "type": "extra_forbidden"}]
        assert failure(422, {"detail": detail}, store=True).retryable_elsewhere
        detail = [{"loc": ["body", "messages", "0"], "msg": "No", "type": "list_type"}]
        assert not failure(422, {"detail": detail}).retryable_elsewhere

    @pytest.mark.parametrize(
        ("code", "is_asked"), [("file_not_found", False), ("not_found", True), (None, True)]
    )
    def test_a_404_that_names_nothing_is_about_the_url(self, code: Any, is_asked: bool) -> None:
        found = failure(404, {"error": {"message": "There is nothing here.", "code": code}})
        assert isinstance(found, RequestRejected)
        assert (found.retryable_elsewhere, found.http_status) == (is_asked, 404)

    def test_a_rejection_of_a_request_that_the_gateway_wrote_moves_on(self) -> None:
        operation, _ = chat(ANTHROPIC)
        target = Target(OPENAI, ModelSpec("first", MODEL))
        answer = json.dumps({"error": {"message": "Invalid.", "param": "messages"}}).encode()
        error = operation.map_error(target, 400, {}, answer)
        operation.review(target, error)
        assert error.retryable_elsewhere

    def test_an_error_without_vendor_details_is_unchanged(self) -> None:
        operation, target = chat(OPENAI)
        error = ServerFailed("x")
        operation.review(target, error)
        review(error, None)  # type: ignore[arg-type]  # not looked at
        assert error.counts_against_breaker


class TestAVendorsOwnCode:
    """Callers of the vendor's format receive its type, code and parameter."""

    def test_openai_s_type_code_and_param_are_kept(self) -> None:
        error = failure(
            400, {"error": {"message": "No.", "type": "t", "code": "c_1", "param": "messages[0]"}}
        )
        own = json.loads(OpenAIChat().write_error(error, "r"))["error"]
        assert (own["type"], own["code"], own["param"]) == ("t", "c_1", "messages[0]")
        other = json.loads(AnthropicMessages().write_error(error, "r"))["error"]
        assert other["type"] == "invalid_request_error"
        assert other["details"] == {"error_code": "request_rejected", "field": "messages[0]"}

    def test_anthropic_s_type_and_code_are_kept(self) -> None:
        answer = {
            "type": "error",
            "error": {
                "type": "not_found_error",
                "message": "thread: not found",
                "details": {"error_code": "thread_not_found"},
            },
        }
        error = failure(404, answer, ANTHROPIC)
        assert (error.http_status, error.retryable_elsewhere) == (404, False)
        own = json.loads(AnthropicMessages().write_error(error, "r"))["error"]
        assert own["type"] == "not_found_error"
        assert own["details"] == {"error_code": "thread_not_found", "field": "thread"}
        other = json.loads(OpenAIChat().write_error(error, "r"))["error"]
        assert (other["code"], other["param"]) == ("request_rejected", "thread")

    @pytest.mark.parametrize(
        ("named", "told"),
        [
            (["tool_choice", "mcp_servers"], ["tool_choice", "mcp_servers"]),
            (["a"] * 500, ["a"] * 32),
            ([5, "line\nend", {"a": 1}, "a"], ["a"]),
            ("tool_choice", None),
            ([], None),
        ],
    )
    def test_features_that_anthropic_s_threads_do_not_support_are_named(
        self, named: Any, told: Any
    ) -> None:
        details = {"error_code": "thread_unsupported_request", "unsupported": named}
        error = {"type": "invalid_request_error", "message": "No.", "details": details}
        refused = failure(400, {"type": "error", "error": error}, ANTHROPIC)
        own = json.loads(AnthropicMessages().write_error(refused, "r"))["error"]["details"]
        assert own["error_code"] == "thread_unsupported_request"
        assert own.get("unsupported") == told
        assert "unsupported" not in json.loads(OpenAIChat().write_error(refused, "r"))["error"]

    @pytest.mark.parametrize("odd", [3, None, "a" * 101, "line\nend", {"a": 1}, ""])
    def test_invalid_names_are_left_out(self, odd: Any) -> None:
        fields = {"message": "No.", "type": odd, "code": odd, "param": odd}
        own = json.loads(OpenAIChat().write_error(failure(400, {"error": fields}), "r"))["error"]
        assert (own["type"], own["code"], own["param"]) == (
            "invalid_request_error",
            "request_rejected",
            None,
        )


def test_a_too_long_prompt_does_not_count_against_the_model() -> None:
    error = failure(400, {"error": {"message": "This model's maximum context length is 8 tokens"}})
    assert type(error) is ContextTooLong
    assert not error.counts_against_breaker


def test_a_relayed_code_does_not_concern_our_account() -> None:
    for inner in ({"code": "invalid_api_key"}, {"code": "insufficient_quota"}, {"code": "odd"}):
        raw = json.dumps({"error": {"message": "x", **inner}})
        answer = {"error": {"message": "Provider returned error", "metadata": {"raw": raw}}}
        assert not failure(400, answer).counts_against_breaker
    assert type(failure(400, answer)) is RequestRejected
    endless = {"error": {"message": "outer", "metadata": {"raw": "[" * 100_000}}}
    assert failure(400, endless).message.endswith(": outer")


@pytest.mark.parametrize("detail", [[], ["x"], [{"msg": 3}], [{"loc": "x", "msg": "y"}]])
def test_a_malformed_list_of_errors_is_read_as_far_as_possible(detail: Any) -> None:
    assert type(failure(422, {"detail": detail})) is RequestRejected


class TestAHugeError:
    """Only the beginning of a message is examined, whatever its form."""

    HUGE = "a model' " * 1_000_000

    @pytest.mark.parametrize(
        "answer",
        [
            {"error": {"message": HUGE, "code": HUGE, "type": HUGE, "param": HUGE}},
            {"error": HUGE},
            {"detail": [{"loc": [HUGE], "msg": HUGE, "type": HUGE}] * 2},
            {"message": {"message": HUGE}},
            HUGE,
        ],
    )
    @pytest.mark.parametrize("status", [200, 400, 403, 404])
    def test_a_huge_error_in_openai_s_format_is_bounded(self, status: int, answer: Any) -> None:
        error = (
            failure(status, answer)
            if status != 200
            else error_in_answer(json.loads(json.dumps(answer)))
        )
        self.check(error)

    @pytest.mark.parametrize("status", [400, 403, 404])
    def test_a_huge_error_in_anthropic_s_format_is_bounded(self, status: int) -> None:
        huge = {"type": self.HUGE, "message": self.HUGE, "details": {"error_code": self.HUGE}}
        self.check(failure(status, {"type": "error", "error": huge}, ANTHROPIC))

    @staticmethod
    def check(error: UpstreamError) -> None:
        assert error.details is not None
        told = (error.message, *(str(getattr(error.details, name)) for name in ("code", "param")))
        assert max(map(len, told)) < 600
        assert len(error.details.reason) <= MAX_READ_CHARACTERS


@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("metadata", [{"provider_name": "Acme"}, {"raw": "Incorrect API key"}])
def test_a_relayed_rejection_of_a_key_does_not_concern_our_key(status: int, metadata: Any) -> None:
    said = {"message": "Incorrect API key provided.", "code": status}
    answer = {"error": {**said, "metadata": metadata}}
    for error in (failure(status, answer), error_in_answer(answer)):
        assert error.disables_credential
        assert not error.counts_against_breaker
    assert failure(status, {"error": said}).counts_against_breaker
