"""Errors in the envelope of OpenAI Chat Completions."""

import json
from typing import Any

import httpx2
import openai
import pytest

from llm_routing.core.errors import (
    AllTargetsFailed,
    ContentFiltered,
    ContextTooLong,
    DeadlineExceeded,
    IdleTimeout,
    InvalidRequest,
    LLMError,
    Overloaded,
    PermissionDenied,
    RateLimited,
    RequestTooLarge,
    Unauthenticated,
    UnknownModel,
)
from llm_routing.core.types import AttemptOutcome, AttemptSummary
from llm_routing.formats.openai_chat.wire_format import OpenAIChat


class TestEnvelope:
    """Errors for callers of OpenAI's format."""

    @pytest.mark.parametrize(
        ("error", "sdk_class", "kind", "code"),
        [
            (
                InvalidRequest("n is wrong.", field="n"),
                openai.BadRequestError,
                "invalid_request_error",
                "invalid_request",
            ),
            (
                Unauthenticated("No key."),
                openai.AuthenticationError,
                "authentication_error",
                "invalid_api_key",
            ),
            (
                PermissionDenied("Not for this."),
                openai.PermissionDeniedError,
                "permission_error",
                "permission_denied",
            ),
            (
                UnknownModel("No such model."),
                openai.NotFoundError,
                "invalid_request_error",
                "model_not_found",
            ),
            (
                RequestTooLarge("Too large."),
                openai.APIStatusError,
                "invalid_request_error",
                "request_too_large",
            ),
            (
                ContextTooLong("Too long."),
                openai.BadRequestError,
                "invalid_request_error",
                "context_length_exceeded",
            ),
            (
                ContentFiltered("No."),
                openai.BadRequestError,
                "invalid_request_error",
                "content_policy_violation",
            ),
            (
                RateLimited("Slow."),
                openai.RateLimitError,
                "rate_limit_error",
                "rate_limit_exceeded",
            ),
            (LLMError("Bug."), openai.InternalServerError, "server_error", "llm_error"),
            (Overloaded("Later."), openai.InternalServerError, "server_error", "overloaded"),
            (
                DeadlineExceeded("Time."),
                openai.InternalServerError,
                "server_error",
                "deadline_exceeded",
            ),
        ],
    )
    def test_the_official_client_raises_its_own_class(
        self, error: LLMError, sdk_class: type, kind: str, code: str
    ) -> None:
        body = OpenAIChat().write_error(error, "req-1")

        def answer(request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(error.http_status, content=body)

        client = openai.OpenAI(
            api_key="k",
            base_url="http://gateway.test/v1",
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
        )
        with client, pytest.raises(sdk_class) as caught:
            client.models.list()
        raised: Any = caught.value
        assert (raised.type, raised.code) == (kind, code)
        assert error.message in raised.message

    def test_the_error_names_the_field_and_the_request(self) -> None:
        error = InvalidRequest("messages.0.role is required.", field="messages.0.role")
        assert json.loads(OpenAIChat().write_error(error, "req-1")) == {
            "error": {
                "message": "messages.0.role is required.",
                "type": "invalid_request_error",
                "param": "messages.0.role",
                "code": "invalid_request",
                "request_id": "req-1",
            }
        }

    def test_attempts_are_listed_by_target_and_reason(self) -> None:
        attempts = [
            AttemptSummary("openai", "gpt", AttemptOutcome.FAILURE, "rate_limited", 12.0),
            AttemptSummary("anthropic", "claude", AttemptOutcome.FAILURE, "idle_timeout"),
        ]
        error = AllTargetsFailed("All failed.", attempts=attempts, last=IdleTimeout("silent"))
        body = json.loads(OpenAIChat().write_error(error, "req-1"))["error"]
        assert body["param"] is None
        assert body["type"] == "server_error"
        assert body["attempts"] == [
            {"target": "openai/gpt", "reason": "rate_limited"},
            {"target": "anthropic/claude", "reason": "idle_timeout"},
        ]
