"""Errors of Anthropic Messages, and the parts of a vendor's message that callers see."""

import json
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.errors import (
    AccessUnavailable,
    AllTargetsFailed,
    ContentFiltered,
    ContextTooLong,
    CredentialRejected,
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ModelNotFound,
    NoTargetAvailable,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    RequestTooLarge,
    ServerFailed,
    Unauthenticated,
    UnknownModel,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from llm_routing.core.types import AttemptOutcome, AttemptSummary
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.vendor_messages import MAX_REASON_CHARACTERS, vendor_reason

FORMAT = AnthropicMessages()


def envelope(kind: str, message: str = "Because.", **fields: Any) -> bytes:
    error = {"type": kind, "message": message, **fields}
    return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()


class TestFromAVendor:
    @pytest.mark.parametrize(
        ("status", "body", "expected"),
        [
            (400, envelope("invalid_request_error"), RequestRejected),
            (
                400,
                envelope("invalid_request_error", "prompt is too long: 210000 tokens > 200000"),
                ContextTooLong,
            ),
            (
                400,
                envelope(
                    "invalid_request_error",
                    "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000",
                ),
                ContextTooLong,
            ),
            (
                400,
                envelope("invalid_request_error", "Output blocked by content filtering policy"),
                ContentFiltered,
            ),
            (
                400,
                envelope(
                    "invalid_request_error",
                    "Your credit balance is too low to access the Anthropic API.",
                ),
                QuotaExhausted,
            ),
            (
                400,
                envelope(
                    "invalid_request_error", "You have reached your specified API usage limits."
                ),
                QuotaExhausted,
            ),
            (
                403,
                envelope(
                    "permission_error", details={"error_code": "contract_spend_limit_reached"}
                ),
                QuotaExhausted,
            ),
            (401, envelope("authentication_error"), CredentialRejected),
            (402, envelope("billing_error"), QuotaExhausted),
            (403, envelope("permission_error"), CredentialRejected),
            (
                403,
                envelope("permission_error", "No access to this model"),
                ModelNotFound,
            ),
            (403, envelope("permission_error", "This model isn't available now"), ModelNotFound),
            (404, envelope("not_found_error", "model: claude-9"), ModelNotFound),
            (408, envelope("timeout_error"), UpstreamTimeout),
            (409, envelope("conflict_error"), ServerFailed),
            (413, envelope("request_too_large"), ContextTooLong),
            (422, b"{}", RequestRejected),
            (429, envelope("rate_limit_error"), RateLimited),
            (500, envelope("api_error"), ServerFailed),
            (500, envelope("overloaded_error"), UpstreamOverloaded),
            (500, envelope("api_error", "prompt is too long"), ServerFailed),
            (503, b"upstream connect error", UpstreamOverloaded),
            (504, envelope("timeout_error"), UpstreamTimeout),
            (529, envelope("overloaded_error"), UpstreamOverloaded),
            (301, b"", ServerFailed),
        ],
    )
    def test_each_error_response_is_mapped_to_its_class(
        self, status: int, body: bytes, expected: type[UpstreamError]
    ) -> None:
        error = FORMAT.map_error(status, {}, body)

        assert type(error) is expected
        assert error.status == status

    def test_the_vendors_reason_is_shown(self) -> None:
        error = FORMAT.map_error(400, {}, envelope("invalid_request_error", "tools.0: too many"))

        assert error.message == "The provider answered 400: tools.0: too many"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>internal host 10.0.0.7</html>",
            b"[]",
            b'{"error":"nope"}',
            b'{"error":{"type":1,"message":["x"],"details":{"error_code":2}}}',
            b'{"error":{"details":"x"}}',
        ],
    )
    def test_a_body_without_an_error_envelope_is_not_shown(self, body: bytes) -> None:
        error = FORMAT.map_error(502, {}, body)

        assert type(error) is ServerFailed
        assert error.message == "The provider answered 502."

    @pytest.mark.parametrize(("value", "expected"), [("7", 7.0), ("soon", None), (None, None)])
    def test_retry_after_is_read(self, value: str | None, expected: float | None) -> None:
        headers = {} if value is None else {"retry-after": value}

        assert FORMAT.map_error(429, headers, b"").retry_after == expected

    @pytest.mark.parametrize(
        ("kind", "expected", "status"),
        [
            ("overloaded_error", UpstreamOverloaded, 529),
            ("rate_limit_error", RateLimited, 429),
            ("api_error", ServerFailed, 500),
            ("timeout_error", UpstreamTimeout, 504),
            ("authentication_error", CredentialRejected, 401),
            ("invalid_request_error", RequestRejected, 400),
            ("of_tomorrow", ServerFailed, 500),
        ],
    )
    def test_an_error_inside_a_200_is_classified_by_its_type(
        self, kind: str, expected: type[UpstreamError], status: int
    ) -> None:
        with pytest.raises(UpstreamError) as caught:
            FORMAT.read_response(envelope(kind))

        assert type(caught.value) is expected
        assert caught.value.status == status


class TestToACaller:
    @pytest.mark.parametrize(
        ("error", "kind", "raised"),
        [
            (InvalidRequest("x"), "invalid_request_error", "BadRequestError"),
            (Unauthenticated("x"), "authentication_error", "AuthenticationError"),
            (PermissionDenied("x"), "permission_error", "PermissionDeniedError"),
            (UnknownModel("x"), "not_found_error", "NotFoundError"),
            (RequestTooLarge("x"), "request_too_large", "ContentTooLargeError"),
            (RateLimited("x"), "rate_limit_error", "RateLimitError"),
            (Overloaded("x"), "overloaded_error", "ServiceUnavailableError"),
            (AccessUnavailable("x"), "overloaded_error", "ServiceUnavailableError"),
            (NoTargetAvailable("x"), "overloaded_error", "ServiceUnavailableError"),
            (DeadlineExceeded("x"), "timeout_error", "GatewayTimeoutError"),
            (ServerFailed("x"), "api_error", "InternalServerError"),
            (LLMError("x"), "api_error", "InternalServerError"),
            (ContextTooLong("x"), "invalid_request_error", "BadRequestError"),
        ],
    )
    def test_the_official_client_raises_its_own_error(
        self, error: LLMError, kind: str, raised: str
    ) -> None:
        body = FORMAT.write_error(error, "req-1")
        transport = httpx2.MockTransport(
            lambda _: httpx2.Response(
                error.http_status, content=body, headers={"content-type": "application/json"}
            )
        )
        with (
            httpx2.Client(transport=transport) as http,
            Anthropic(api_key="k", max_retries=0, http_client=http) as client,
            pytest.raises(Exception, match="x") as caught,
        ):
            client.messages.create(
                model="m", max_tokens=1, messages=[{"role": "user", "content": "Hi"}]
            )

        assert type(caught.value).__name__ == raised
        value = json.loads(body)
        assert value["type"] == "error"
        assert value["request_id"] == "req-1"
        assert value["error"]["type"] == kind
        assert value["error"]["message"] == "x"
        assert caught.value.error_code == error.code  # type: ignore[attr-defined]

    def test_a_status_without_its_own_type_is_an_invalid_request_error(self) -> None:
        error = InvalidRequest("x")
        error.http_status = 422

        assert json.loads(FORMAT.write_error(error, ""))["error"]["type"] == (
            "invalid_request_error"
        )

    def test_the_invalid_field_is_named(self) -> None:
        body = FORMAT.write_error(InvalidRequest("x", field="messages.0.role"), "")
        without = FORMAT.write_error(InvalidRequest("x"), "")

        assert json.loads(body)["error"]["details"]["field"] == "messages.0.role"
        assert "field" not in json.loads(without)["error"]["details"]

    def test_the_attempts_are_listed_by_target_and_reason(self) -> None:
        attempts = (
            AttemptSummary("openai", "gpt-x", AttemptOutcome.FAILURE, "rate_limited"),
            AttemptSummary("anthropic", "claude-x", AttemptOutcome.FAILURE, "server_failed"),
        )
        error = AllTargetsFailed("x", attempts=attempts, last=ServerFailed("y"))

        assert json.loads(FORMAT.write_error(error, ""))["error"]["details"]["attempts"] == [
            {"target": "openai/gpt-x", "error_code": "rate_limited"},
            {"target": "anthropic/claude-x", "error_code": "server_failed"},
        ]


class TestAVendorsReason:
    @pytest.mark.parametrize(
        "text",
        [
            "max_tokens: 70000 > 64000, which is the maximum for claude-opus-4-5-20251101",
            "messages.1: `tool_use` ids were found without `tool_result` blocks: toolu_01A09q9",
            "The tokenization of keyboards in https://docs.example/errors failed.",
            "Unknown key: temperature",
        ],
    )
    def test_plain_text_is_unchanged(self, text: str) -> None:
        assert vendor_reason(text) == text

    @pytest.mark.parametrize(
        "secret",
        [
            "sk-ant-api03-AbCdEf123456",
            "sk-proj-****************abcd",
            "gsk_abcdefgh1234",
            "AIzaSyA1234567890abcdef",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc",
            "0123456789abcdef0123456789abcdef",
        ],
    )
    def test_text_that_looks_like_a_key_is_masked(self, secret: str) -> None:
        assert vendor_reason(f"The key {secret} is wrong.") in (
            "The key *** is wrong.",
            "The key *** is wrong",
        )

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Bearer abc/def is wrong", "Bearer *** is wrong"),
            ("api_key=abc, sorry", "api_key=***, sorry"),
            ('"api-key": "abc"', '"api-key": ***'),
            ("GET https://h/p?key=abc&x=1 failed", "GET https://h/p?*** failed"),
        ],
    )
    def test_a_value_labelled_as_a_secret_is_masked(self, text: str, expected: str) -> None:
        assert vendor_reason(text) == expected

    def test_control_characters_become_spaces(self) -> None:
        assert vendor_reason("a\r\nb\x00c\x1b[31m\u202ed ") == "a b c [31m d"

    @given(st.text(max_size=3000))
    def test_it_is_always_one_short_printable_line(self, text: str) -> None:
        reason = vendor_reason(text)

        assert len(reason) <= MAX_REASON_CHARACTERS
        assert not any(ord(character) < 32 or ord(character) == 127 for character in reason)

    def test_a_long_reason_is_cut_visibly(self) -> None:
        reason = vendor_reason("word " * 100)

        assert len(reason) == MAX_REASON_CHARACTERS
        assert reason.endswith("…")

    def test_a_key_at_the_cut_is_masked(self) -> None:
        text = "x " * (MAX_REASON_CHARACTERS // 2 - 4) + "sk-ant-abcdefghijklmnop"

        assert "ant" not in vendor_reason(text)
