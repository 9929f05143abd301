"""Maps errors of vendors of OpenAI Chat Completions."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.errors import (
    ContentFiltered,
    ContextTooLong,
    CredentialRejected,
    EndpointNotFound,
    ModelNotFound,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerFailed,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from llm_routing.formats.openai_chat.wire_format import OpenAIChat


def map_error(status: int, body: Any = None, **headers: str) -> UpstreamError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    error = OpenAIChat().map_error(status, named, data)
    assert error.status == status
    return error


def said(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, ServerFailed),
        (400, RequestRejected),
        (401, CredentialRejected),
        (402, QuotaExhausted),
        (403, CredentialRejected),
        (404, EndpointNotFound),
        (405, EndpointNotFound),
        (408, UpstreamTimeout),
        (409, ServerFailed),
        (413, ContextTooLong),
        (422, RequestRejected),
        (429, RateLimited),
        (498, UpstreamOverloaded),
        (500, ServerFailed),
        (502, ServerFailed),
        (503, UpstreamOverloaded),
        (504, UpstreamTimeout),
        (524, UpstreamTimeout),
        (529, UpstreamOverloaded),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>nginx secret-page</html>", b"null", b"[]", b'{"error": null}', b"3"]
)
def test_without_a_message_the_status_decides(status: int, error: type, body: bytes) -> None:
    mapped = map_error(status, body)
    assert type(mapped) is error
    assert "secret-page" not in mapped.message
    assert mapped.message.endswith(f"({status}).")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        # OpenAI
        (400, said("x", code="context_length_exceeded"), ContextTooLong),
        (429, said("x", code="insufficient_quota", type="insufficient_quota"), QuotaExhausted),
        (429, said("x", type="insufficient_quota"), QuotaExhausted),
        (429, said("You exceeded your current quota", code=429), RateLimited),
        (400, said("x", code="content_policy_violation"), ContentFiltered),
        (404, said("The model `gpt-9` does not exist", code="model_not_found"), ModelNotFound),
        (400, said("The model `gpt-9` does not exist or you do not have access"), ModelNotFound),
        (403, said("Project `p` does not have access to model `gpt-9`"), ModelNotFound),
        (403, said("You are not allowed to sample from this model"), ModelNotFound),
        (403, said("The model `llama` is blocked at the project level."), ModelNotFound),
        (403, said("You don't have access to the model with the specified ID."), ModelNotFound),
        (403, said("Your organization must be verified to use this model"), ModelNotFound),
        (403, said("You are not allowed here"), CredentialRejected),
        (403, said("Insufficient permissions. Missing scopes: model.request"), CredentialRejected),
        (403, said("Your key has no access to models"), CredentialRejected),
        # Azure
        (400, said("x", code="content_filter", innererror={"code": "x"}), ContentFiltered),
        (400, said("x", innererror={"code": "ResponsibleAIPolicyViolation"}), ContentFiltered),
        (400, said("The response was filtered by content management policy"), ContentFiltered),
        # OpenRouter
        (403, said("x", code=403, metadata={"reasons": ["hate"]}), ContentFiltered),
        (403, said("x", code=403, metadata={"flagged_input": "…"}), ContentFiltered),
        (400, said("foo/bar is not a valid model ID", code=400), ModelNotFound),
        (
            400,
            said(
                "Provider returned error",
                metadata={"raw": '{"error": {"message": "prompt is too long: 9 > 8"}}'},
            ),
            ContextTooLong,
        ),
        # Mistral, DeepSeek, Gemini, xAI, vLLM, llama.cpp, Groq, Ollama, FastAPI
        (400, {"object": "error", "message": "x", "code": "unknown_model"}, ModelNotFound),
        (400, said("Model Not Exist"), ModelNotFound),
        (400, said("Invalid model: foo"), ModelNotFound),
        (403, said("Insufficient Balance"), QuotaExhausted),
        (400, [said("API key not valid. Please pass a valid API key.")], CredentialRejected),
        (400, said("Incorrect API key provided: ***"), CredentialRejected),
        (400, {"error": {"status": "UNAUTHENTICATED"}}, CredentialRejected),
        (500, said("x", type="exceed_context_size_error"), ContextTooLong),
        (500, said("x", type="overloaded_error"), UpstreamOverloaded),
        (413, said("Request too large for model (TPM)", code="rate_limit"), ContextTooLong),
        (404, {"error": "model 'x' not found"}, ModelNotFound),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "too big"}]}, RequestRejected),
        # Messages count only for statuses where a rejection is expected.
        (429, said("maximum context length"), RateLimited),
        (503, said("model not found"), UpstreamOverloaded),
    ],
)
def test_codes_and_messages_are_more_specific_than_the_status(
    status: int, body: Any, error: type
) -> None:
    assert type(map_error(status, body)) is error


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "prompt is too long: 213462 tokens > 200000 maximum",
        "Input is too long for requested model.",
        "Your input exceeds the context window of this model.",
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens",
        "Please reduce the length of the messages or completion.",
        "the request exceeds the available context size, try increasing it",
        "the number of tokens to keep is greater than the context length",
        "invalid params, context window exceeds limit (2013)",
        "Your request exceeded model token limit: 262144",
        "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
    ],
)
def test_each_vendors_message_for_a_too_long_prompt_is_recognised(words: str) -> None:
    assert type(map_error(400, said(words))) is ContextTooLong


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (said("no such field"), "no such field"),
        ({"object": "error", "message": "no such field"}, "no such field"),
        ({"error": "no such field"}, "no such field"),
        ("no such field", "no such field"),
        ([said("no such field")], "no such field"),
        ({"detail": "no such field"}, "no such field"),
        ({"message": {"detail": "no such field"}}, "no such field"),
        ({"message": {"message": "no such field"}}, "no such field"),
        (
            {"detail": [{"loc": ["body", "n"], "msg": "too big", "input": "PROMPT"}, "x"]},
            "body.n: too big",
        ),
        ({"detail": [{"msg": "a"}, {"msg": "b"}]}, ": a; : b"),
        (said("outer", metadata={"raw": '{"message": "inner"}'}), "inner"),
        (said("outer", metadata={"raw": "no json"}), "outer"),
        (said("outer", metadata={"raw": "{}"}), "outer"),
        (said("outer", metadata={"raw": {"a": 1}}), "outer"),
    ],
)
def test_the_vendors_reason_is_shown(body: Any, reason: str) -> None:
    message = map_error(400, body).message
    assert message == f"The provider rejected the request as invalid (400): {reason}"


@pytest.mark.parametrize("body", [said(""), {"error": {"message": 3}}, {"error": [1]}, {"a": 1}])
def test_without_a_reason_only_the_general_message_is_shown(body: Any) -> None:
    assert map_error(400, body).message == "The provider rejected the request as invalid (400)."


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcDEF1234567890abcDEF",
        "Bearer abc.def-ghi",
        "gsk_1234567890abcdef1234",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "0123456789abcdef0123456789abcdef",
    ],
)
def test_text_that_looks_like_a_key_is_masked(secret: str) -> None:
    message = map_error(401, said(f"Incorrect key provided: {secret} (see docs)")).message
    assert secret.split()[-1] not in message
    assert "Incorrect key provided" in message
    assert "(see docs)" in message


def test_the_query_of_a_url_is_not_shown() -> None:
    message = map_error(400, said("see https://x.test/a?key=hidden&b=2 for more")).message
    assert "hidden" not in message
    assert "https://x.test/a" in message


@given(st.text(max_size=3000))
def test_a_reason_is_short_and_on_one_line(text: str) -> None:
    try:
        body = json.dumps(said(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    message = map_error(400, body).message
    assert len(message) < 600
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in message)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "2"}, 2.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": "-1"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "3600"}, 60.0),
        ({"retry_after": "Mon, 23 Nov 2026 12:00:00 GMT"}, None),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after_ms": "250", "retry_after": "1"}, 0.25),
        ({"retry_after_ms": "120000"}, 60.0),
        ({"retry_after_ms": "-5"}, None),
        ({"retry_after_ms": "inf"}, None),
        ({"retry_after_ms": "soon", "retry_after": "1"}, 1.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert map_error(429, said("slow"), **headers).retry_after == seconds
    assert map_error(503, b"", **headers).retry_after == seconds


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"type": "invalid_request_error"}, RequestRejected),
        ({"type": "BadRequestError"}, RequestRejected),
        ({"status": "INVALID_ARGUMENT"}, RequestRejected),
        ({"type": "authentication_error"}, CredentialRejected),
        ({"type": "permission_error"}, CredentialRejected),
        ({"status": "PERMISSION_DENIED"}, CredentialRejected),
        ({"status": "NOT_FOUND"}, RequestRejected),
        ({"type": "not_found_error"}, RequestRejected),
        ({"code": "rate_limit_exceeded", "type": "tokens"}, RateLimited),
        ({"type": "rate_limit_error"}, RateLimited),
        ({"status": "RESOURCE_EXHAUSTED"}, RateLimited),
        ({"code": "server_error"}, ServerFailed),
        ({"type": "api_error"}, ServerFailed),
        ({"status": "INTERNAL"}, ServerFailed),
        ({"code": "internal_error"}, ServerFailed),
        ({"code": "internal_server_error"}, ServerFailed),
        ({"type": "InternalServerError"}, ServerFailed),
        ({"code": 599}, ServerFailed),
        ({"status": "UNAVAILABLE"}, UpstreamOverloaded),
        ({"type": "service_unavailable"}, UpstreamOverloaded),
        ({"type": "overloaded_error"}, UpstreamOverloaded),
        ({"status": "DEADLINE_EXCEEDED"}, UpstreamTimeout),
        ({"code": "timeout"}, UpstreamTimeout),
        ({"code": "context_length_exceeded"}, ContextTooLong),
        ({"code": "content_filter"}, ContentFiltered),
        ({"code": "billing_hard_limit_reached"}, QuotaExhausted),
        ({"code": "insufficient_quota"}, QuotaExhausted),
        ({"code": "invalid_api_key"}, CredentialRejected),
        ({"type": "invalid_model"}, ModelNotFound),
        ({"metadata": {"error_type": "rate_limit_exceeded"}}, RateLimited),
    ],
)
def test_an_error_without_a_status_is_classified_by_its_code(fields: Any, error: type) -> None:
    with pytest.raises(UpstreamError) as caught:
        OpenAIChat().read_response(json.dumps(said("x", **fields)).encode())
    assert type(caught.value) is error
    assert caught.value.status == 200


@pytest.mark.parametrize("code", [399, 600, "4290", "４２９", "abc", None, True, 429.0])
def test_a_code_that_is_not_a_status_is_ignored(code: Any) -> None:
    with pytest.raises(UpstreamError) as caught:
        OpenAIChat().read_response(json.dumps(said("x", code=code)).encode())
    assert caught.value.code == "malformed_answer"
