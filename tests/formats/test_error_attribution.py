"""Errors that a caller can provoke never count against shared state."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.embeddings import EmbeddingRequest
from llm_routing.core.errors import (
    CredentialRejected,
    EndpointNotFound,
    ModelNotFound,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerFailed,
    UpstreamError,
    UpstreamOverloaded,
)
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.formats.operations import (
    CountTokensOperation,
    EmbeddingOperation,
)
from tests.formats.vendor_failures import ANTHROPIC, MODEL, OPENAI, chat, failure, parsed

# Texts that callers could write to imitate the vendor.
TEXTS = (
    "incorrect api key",
    "Incorrect API key provided: x",
    "insufficient credits",
    "insufficient quota",
    "Your credit balance is too low to access the Anthropic API.",
    "You have reached your specified API usage limits.",
    f"The model `{MODEL}` does not exist",
    f"model: {MODEL}",
    f"model '{MODEL}' not found",
    "x' incorrect api key 'y",
    '" insufficient balance "',
    "invalid model",
    "you do not have access to this model",
)


SHAPES: tuple[Any, ...] = (
    lambda text: {"error": {"message": text, "type": "invalid_request_error", "code": None}},
    lambda text: {"error": {"message": f"Unknown parameter: '{text}'."}},
    lambda text: {"error": {"message": f"{text}: Extra inputs are not permitted"}},
    lambda text: {"error": {"message": f"File {text} not found", "code": "file_not_found"}},
    lambda text: {"error": text},
    lambda text: {"message": text},
    lambda text: {"detail": text},
    lambda text: {"detail": [{"loc": ["body", text], "msg": text, "type": "extra_forbidden"}]},
    lambda text: {
        "error": {
            "message": "Provider returned error",
            "metadata": {
                "raw": json.dumps({"error": {"message": text, "code": "invalid_api_key"}})
            },
        }
    },
    lambda text: {"type": "error", "error": {"type": "invalid_request_error", "message": text}},
    lambda text: {"type": "error", "error": {"type": "not_found_error", "message": text}},
    lambda text: {"type": "error", "error": {"type": "permission_error", "message": text}},
)


PROVOCABLE = (400, 403, 404, 405, 409, 410, 413, 415, 422, 424, 498)


@pytest.mark.parametrize("status", PROVOCABLE)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("provider", [OPENAI, ANTHROPIC])
def test_a_callers_text_in_an_error_never_counts_against_shared_state(
    provider: ProviderSpec, shape: Any, status: int
) -> None:
    for text in TEXTS:
        for body in ({text: 1}, {"messages": [{"role": "user", "content": text}]}):
            error = failure(status, shape(text), provider, **body)
            assert not error.counts_against_breaker, (text, type(error))


@given(st.text(max_size=60), st.sampled_from(SHAPES), st.sampled_from(PROVOCABLE))
def test_any_other_text_in_an_error_does_not_count_either(
    text: str, shape: Any, status: int
) -> None:
    try:
        error = failure(status, shape(text), metadata={"k": text})
    except UnicodeEncodeError:
        return
    assert not error.counts_against_breaker


@pytest.mark.parametrize(
    ("provider", "status", "answer", "error"),
    [
        (OPENAI, 401, {"error": {"message": "Wrong."}}, CredentialRejected),
        (OPENAI, 402, {"error": {"message": "Insufficient credits", "code": 402}}, QuotaExhausted),
        (OPENAI, 403, {"error": {"message": "Incorrect API key provided."}}, CredentialRejected),
        (OPENAI, 403, {"error": "Your API key was reported as leaked."}, CredentialRejected),
        (OPENAI, 429, {"error": {"code": "insufficient_quota"}}, QuotaExhausted),
        (OPENAI, 429, {"error": {"message": "Slow down."}}, RateLimited),
        (OPENAI, 400, {"error": {"message": "x", "code": "invalid_api_key"}}, CredentialRejected),
        (
            OPENAI,
            400,
            [
                {
                    "error": {
                        "code": 400,
                        "message": "API key not valid. Please pass a valid API key.",
                        "status": "INVALID_ARGUMENT",
                        "details": [{"reason": "API_KEY_INVALID"}, {"@type": "x"}, "y"],
                    }
                }
            ],
            CredentialRejected,
        ),
        (OPENAI, 500, {"error": {"message": "Oops"}}, ServerFailed),
        (OPENAI, 503, {"error": {"message": "Oops"}}, UpstreamOverloaded),
        (
            OPENAI,
            404,
            {
                "error": {
                    "message": f"The model `{MODEL}` does not exist",
                    "code": "model_not_found",
                }
            },
            ModelNotFound,
        ),
        (OPENAI, 404, {"error": f"model '{MODEL}' not found"}, ModelNotFound),
        (
            OPENAI,
            404,
            {"error": {"message": "The model does not exist.", "code": "model_not_found"}},
            ModelNotFound,
        ),
        (
            OPENAI,
            400,
            {"object": "error", "message": "x", "param": "model", "code": "unknown_model"},
            ModelNotFound,
        ),
        (
            ANTHROPIC,
            404,
            {"type": "error", "error": {"type": "not_found_error", "message": f"model: {MODEL}"}},
            ModelNotFound,
        ),
        (
            ANTHROPIC,
            429,
            {
                "error": {
                    "type": "rate_limit_error",
                    "details": {"error_code": "x_spend_limit_reached"},
                }
            },
            QuotaExhausted,
        ),
        (ANTHROPIC, 402, {"error": {"type": "billing_error", "message": "x"}}, QuotaExhausted),
        (ANTHROPIC, 529, {"error": {"type": "overloaded_error"}}, UpstreamOverloaded),
    ],
)
def test_a_status_or_a_documented_code_counts(
    provider: ProviderSpec, status: int, answer: Any, error: type
) -> None:
    found = failure(status, answer, provider)
    assert type(found) is error
    assert found.counts_against_breaker


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (400, {"error": {"message": "Incorrect API key provided: sk***YA."}}, CredentialRejected),
        (403, {"error": {"message": "Forbidden"}}, CredentialRejected),
        (
            403,
            {
                "error": {
                    "message": "No permission to access the File x",
                    "status": "PERMISSION_DENIED",
                }
            },
            CredentialRejected,
        ),
        (
            402,
            {"error": {"message": "This request requires more credits, or fewer max_tokens."}},
            QuotaExhausted,
        ),
        (
            429,
            {"error": {"message": "Request too large for gpt-9 on tokens per min (TPM)"}},
            RateLimited,
        ),
        (498, {"error": {"message": "Flex capacity exceeded"}}, UpstreamOverloaded),
        (409, {"error": {"message": "The container is in use."}}, ServerFailed),
        (
            404,
            {"error": {"message": "The model `image-3` does not exist", "code": "model_not_found"}},
            ModelNotFound,
        ),
        (
            404,
            {"error": {"message": f"The model `{MODEL}-mini` is gone", "code": "model_not_found"}},
            ModelNotFound,
        ),
        (
            404,
            {"error": {"message": "x", "param": "tools", "code": "model_not_found"}},
            ModelNotFound,
        ),
        (
            400,
            {"error": {"message": f"{MODEL} is not a valid model ID", "code": 400}},
            ModelNotFound,
        ),
        (404, {"detail": "Not Found"}, EndpointNotFound),
        (404, {"error": {"message": "Invalid URL (POST /chat/completions)"}}, EndpointNotFound),
        (
            404,
            {"error": {"message": "No such File: file-1", "code": "file_not_found"}},
            RequestRejected,
        ),
    ],
)
def test_errors_that_depend_on_the_request_do_not_count(
    status: int, answer: Any, error: type
) -> None:
    found = failure(status, answer)
    assert type(found) is error
    assert not found.counts_against_breaker


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"type": "x", "model": MODEL}]},
        {"messages": [{"role": "user", "content": f"Is {MODEL} good?"}]},
    ],
)
def test_a_missing_model_does_not_count_if_the_caller_mentions_it(body: Any) -> None:
    for answer in (
        {"error": {"message": f"The model `{MODEL}` does not exist", "code": "model_not_found"}},
        {"error": f"model '{MODEL}' not found"},
    ):
        assert not failure(404, answer, **body).counts_against_breaker


def test_a_bare_code_does_not_count_if_another_field_is_named_model() -> None:
    answer = {"error": {"message": "No such model.", "code": "model_not_found"}}
    assert failure(404, answer).counts_against_breaker
    assert not failure(
        404, answer, tools=[{"type": "x", "image_model": "y"}]
    ).counts_against_breaker


def test_a_phrase_from_the_request_is_not_attributed_to_the_vendor() -> None:
    answer = {"error": {"message": "Incorrect API key provided."}}
    asked = [{"role": "user", "content": "Why INCORRECT API KEY?"}]
    assert failure(403, answer).counts_against_breaker
    assert not failure(403, answer, messages=asked).counts_against_breaker


def test_a_phrase_lost_in_conversion_is_attributed_to_the_caller_too() -> None:
    _, target = chat(OPENAI)
    answer = json.dumps({"error": {"message": "Incorrect API key provided."}}).encode()
    for more, counts in (({"incorrect api key": 1}, False), ({"other": 1}, True)):
        operation, _ = chat(ANTHROPIC, **more)
        error = operation.map_error(target, 403, {}, answer)
        operation.review(target, error)
        assert error.counts_against_breaker is counts


def test_a_name_lost_in_conversion_is_attributed_to_the_caller_too() -> None:
    _, target = chat(OPENAI)
    answer = json.dumps({"error": f"model '{MODEL}' not found"}).encode()
    for more, counts in (({"container": MODEL}, False), ({"container": "x"}, True)):
        operation, _ = chat(ANTHROPIC, **more)
        error = operation.map_error(target, 404, {}, answer)
        operation.review(target, error)
        assert error.counts_against_breaker is counts


def test_an_error_inside_an_answer_counts_only_by_its_code() -> None:
    for fields, counts in (
        ({"message": "x", "code": 401}, True),
        ({"message": "x", "code": "insufficient_quota"}, True),
        ({"message": "Incorrect API key provided.", "code": 400}, False),
        ({"message": "Insufficient credits", "code": 403}, False),
        ({"message": f"The model `{MODEL}` does not exist", "code": 404}, False),
    ):
        with pytest.raises(UpstreamError) as caught:
            OpenAIChat().read_response(json.dumps({"error": fields}).encode())
        assert caught.value.counts_against_breaker is counts, fields


def test_a_404_for_an_unlisted_capability_does_not_count_as_a_missing_model() -> None:
    answer = json.dumps({"error": f"model '{MODEL}' not found"}).encode()
    operation = EmbeddingOperation(EmbeddingRequest(("a",)))
    for capabilities, counts in ((frozenset(), False), (frozenset({"embeddings"}), True)):
        target = Target(OPENAI, ModelSpec("first", MODEL, capabilities=capabilities))
        error = operation.map_error(target, 404, {}, answer)
        operation.review(target, error)
        assert isinstance(error, ModelNotFound)
        assert error.counts_against_breaker is counts


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_vendor_without_token_counting_has_no_such_endpoint(status: int) -> None:
    counting = CountTokensOperation(parsed(ANTHROPIC))
    _, target = chat(ANTHROPIC)
    assert not counting.proves_health
    answers: list[Any] = [{"detail": "Not Found"}, {"error": {"type": "not_found_error"}}, ""]
    for answer in answers:
        error = counting.map_error(target, status, {}, json.dumps(answer).encode())
        assert type(error) is EndpointNotFound
    missing = {"error": {"type": "not_found_error", "details": {"error_code": "thread_not_found"}}}
    error = counting.map_error(target, 404, {}, json.dumps(missing).encode())
    assert type(error) is RequestRejected
    counting.review(target, error)
    assert not error.retryable_elsewhere
