"""What a caller can provoke counts against nothing that requests share, in every shape of error."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.errors import (
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
)
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.types import EmbeddingRequest
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.error_attribution import review
from llm_routing.formats.openai_chat.errors import error_in_answer
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.formats.operations import (
    ChatOperation,
    CountTokensOperation,
    EmbeddingOperation,
)
from llm_routing.formats.vendor_messages import (
    MAX_READ_CHARACTERS,
    mentions,
    outside_all_quotes,
    without_quotes,
)

MODEL = "gpt-9"
OPENAI = ProviderSpec("first", "openai", "openai_chat", "http://upstream.test/v1")
ANTHROPIC = ProviderSpec("claude", "anthropic", "anthropic_messages", "http://upstream.test")
CHAT = frozenset({"chat"})

# What callers could write to be believed for the vendor.
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


def chat(provider: ProviderSpec, **body: Any) -> tuple[ChatOperation, Target]:
    """A request that is relayed to `provider`."""
    body.setdefault("messages", [{"role": "user", "content": "Hi"}])
    speaks = OpenAIChat() if provider is OPENAI else AnthropicMessages()
    request = speaks.read_request({"model": "any", "max_tokens": 9, **body})
    return ChatOperation(request), Target(
        provider, ModelSpec(provider.name, MODEL, capabilities=CHAT)
    )


def failure(
    status: int, answer: Any, provider: ProviderSpec = OPENAI, **body: Any
) -> UpstreamError:
    """What follows from an answer to a request."""
    operation, target = chat(provider, **body)
    error = operation.map_error(target, status, {}, json.dumps(answer).encode())
    operation.review(target, error)
    return error


@pytest.mark.parametrize("status", PROVOCABLE)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("provider", [OPENAI, ANTHROPIC])
def test_no_text_of_a_caller_counts_against_anything_shared(
    provider: ProviderSpec, shape: Any, status: int
) -> None:
    for text in TEXTS:
        for body in ({text: 1}, {"messages": [{"role": "user", "content": text}]}):
            error = failure(status, shape(text), provider, **body)
            assert not error.counts_against_breaker, (text, type(error))


@given(st.text(max_size=60), st.sampled_from(SHAPES), st.sampled_from(PROVOCABLE))
def test_nor_does_any_other_text(text: str, shape: Any, status: int) -> None:
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
def test_what_depends_on_the_request_does_not(status: int, answer: Any, error: type) -> None:
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
def test_a_model_that_the_caller_speaks_of_too_is_not_believed_to_be_gone(body: Any) -> None:
    for answer in (
        {"error": {"message": f"The model `{MODEL}` does not exist", "code": "model_not_found"}},
        {"error": f"model '{MODEL}' not found"},
    ):
        assert not failure(404, answer, **body).counts_against_breaker


def test_another_field_named_model_makes_a_bare_code_doubtful() -> None:
    answer = {"error": {"message": "No such model.", "code": "model_not_found"}}
    assert failure(404, answer).counts_against_breaker
    assert not failure(
        404, answer, tools=[{"type": "x", "image_model": "y"}]
    ).counts_against_breaker


def test_words_that_the_request_holds_are_not_the_vendor_s() -> None:
    answer = {"error": {"message": "Incorrect API key provided."}}
    asked = [{"role": "user", "content": "Why INCORRECT API KEY?"}]
    assert failure(403, answer).counts_against_breaker
    assert not failure(403, answer, messages=asked).counts_against_breaker


def test_words_that_were_lost_on_the_way_to_another_format_are_the_caller_s_too() -> None:
    _, target = chat(OPENAI)
    answer = json.dumps({"error": {"message": "Incorrect API key provided."}}).encode()
    for more, counts in (({"incorrect api key": 1}, False), ({"other": 1}, True)):
        operation, _ = chat(ANTHROPIC, **more)
        error = operation.map_error(target, 403, {}, answer)
        operation.review(target, error)
        assert error.counts_against_breaker is counts


def test_a_name_that_was_lost_on_the_way_to_another_format_is_the_caller_s_too() -> None:
    _, target = chat(OPENAI)
    answer = json.dumps({"error": f"model '{MODEL}' not found"}).encode()
    for more, counts in (({"container": MODEL}, False), ({"container": "x"}, True)):
        operation, _ = chat(ANTHROPIC, **more)
        error = operation.map_error(target, 404, {}, answer)
        operation.review(target, error)
        assert error.counts_against_breaker is counts


def test_an_error_inside_an_answer_is_believed_by_its_code_alone() -> None:
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


def test_a_model_without_capabilities_is_not_gone_for_what_it_may_never_have_offered() -> None:
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
    operation, target = chat(ANTHROPIC)
    counting = CountTokensOperation(operation._request)
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


class TestWhoIsAskedNext:
    """A refused request is another target's to judge if the gateway wrote what was refused, or if a
    feature was refused; not if the caller's own content was."""

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
    def test_of_a_request_that_was_relayed(self, error: Any, is_asked: bool) -> None:
        found = failure(400, {"error": error}, temperature=1)
        assert isinstance(found, RequestRejected)
        assert found.retryable_elsewhere is is_asked

    def test_pydantic_s_complaint_about_a_field_is_a_feature(self) -> None:
        detail = [{"loc": ["body", "store"], "msg": "No", "type": "extra_forbidden"}]
        assert failure(422, {"detail": detail}, store=True).retryable_elsewhere
        detail = [{"loc": ["body", "messages", "0"], "msg": "No", "type": "list_type"}]
        assert not failure(422, {"detail": detail}).retryable_elsewhere

    @pytest.mark.parametrize(
        ("code", "is_asked"), [("file_not_found", False), ("not_found", True), (None, True)]
    )
    def test_a_404_without_a_name_for_what_is_missing_is_about_the_address(
        self, code: Any, is_asked: bool
    ) -> None:
        found = failure(404, {"error": {"message": "There is nothing here.", "code": code}})
        assert isinstance(found, RequestRejected)
        assert (found.retryable_elsewhere, found.http_status) == (is_asked, 404)

    def test_of_a_request_that_the_gateway_wrote(self) -> None:
        operation, _ = chat(ANTHROPIC)
        target = Target(OPENAI, ModelSpec("first", MODEL))
        answer = json.dumps({"error": {"message": "Invalid.", "param": "messages"}}).encode()
        error = operation.map_error(target, 400, {}, answer)
        operation.review(target, error)
        assert error.retryable_elsewhere

    def test_what_is_no_vendor_s_error_stays_as_it_is(self) -> None:
        operation, target = chat(OPENAI)
        error = ServerFailed("x")
        operation.review(target, error)
        review(error, None)  # type: ignore[arg-type]  # not looked at
        assert error.counts_against_breaker


class TestAVendorsOwnCode:
    """Callers who speak the vendor's format get its type, code and parameter."""

    def test_openai_s(self) -> None:
        error = failure(
            400, {"error": {"message": "No.", "type": "t", "code": "c_1", "param": "messages[0]"}}
        )
        own = json.loads(OpenAIChat().write_error(error, "r"))["error"]
        assert (own["type"], own["code"], own["param"]) == ("t", "c_1", "messages[0]")
        other = json.loads(AnthropicMessages().write_error(error, "r"))["error"]
        assert other["type"] == "invalid_request_error"
        assert other["details"] == {"error_code": "request_rejected", "field": "messages[0]"}

    def test_anthropic_s(self) -> None:
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
    def test_what_threads_of_anthropic_s_do_not_support_is_named(
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
    def test_what_is_no_name_is_left_out(self, odd: Any) -> None:
        fields = {"message": "No.", "type": odd, "code": odd, "param": odd}
        own = json.loads(OpenAIChat().write_error(failure(400, {"error": fields}), "r"))["error"]
        assert (own["type"], own["code"], own["param"]) == (
            "invalid_request_error",
            "request_rejected",
            None,
        )


@pytest.mark.parametrize(
    ("text", "outside", "outside_all"),
    [
        ("A 'b' C", "a   c", "a  c"),
        ("the model's 'b' limit", "the model's   limit", "the model's  limit"),
        ('A "b" c `d` e', "a   c   e", "a  e"),
        ("A “b” c", "a   c", "a  c"),
        ("A 'b", "a  ", "a "),
        ("'it's here' now", "  now", " now"),
        ("plain", "plain", "plain"),
    ],
)
def test_quotes_are_taken_out(text: str, outside: str, outside_all: str) -> None:
    assert without_quotes(text) == outside
    assert outside_all_quotes(text).split() == outside_all.split()


@pytest.mark.parametrize(
    ("text", "is_mentioned"),
    [
        ("the model gpt-9.", True),
        ("the model gpt-9", True),
        ("gpt-9: gone", True),
        ("gpt-9.1 is gone", False),
        ("gpt-9-mini is gone", False),
        ("my-gpt-9 is gone, gpt-9 is not", True),
        ("my-gpt-9", False),
        ("", False),
    ],
)
def test_a_name_is_found_as_a_word_of_its_own(text: str, is_mentioned: bool) -> None:
    assert mentions(text, MODEL) is is_mentioned
    assert not mentions(text, "")


def test_too_long_a_prompt_says_nothing_about_the_model() -> None:
    error = failure(400, {"error": {"message": "This model's maximum context length is 8 tokens"}})
    assert type(error) is ContextTooLong
    assert not error.counts_against_breaker


def test_a_code_that_another_vendor_wrote_is_about_no_account_of_ours() -> None:
    for inner in ({"code": "invalid_api_key"}, {"code": "insufficient_quota"}, {"code": "odd"}):
        raw = json.dumps({"error": {"message": "x", **inner}})
        answer = {"error": {"message": "Provider returned error", "metadata": {"raw": raw}}}
        assert not failure(400, answer).counts_against_breaker
    assert type(failure(400, answer)) is RequestRejected
    endless = {"error": {"message": "outer", "metadata": {"raw": "[" * 100_000}}}
    assert failure(400, endless).message.endswith(": outer")


@pytest.mark.parametrize("detail", [[], ["x"], [{"msg": 3}], [{"loc": "x", "msg": "y"}]])
def test_an_odd_list_of_complaints_is_read_as_far_as_it_goes(detail: Any) -> None:
    assert type(failure(422, {"detail": detail})) is RequestRejected


class TestAHugeError:
    """Nothing but the beginning of a message is looked at, whatever its shape."""

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
    def test_of_openai_s_format(self, status: int, answer: Any) -> None:
        error = (
            failure(status, answer)
            if status != 200
            else error_in_answer(json.loads(json.dumps(answer)))
        )
        self.check(error)

    @pytest.mark.parametrize("status", [400, 403, 404])
    def test_of_anthropic_s_format(self, status: int) -> None:
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
def test_the_key_that_the_vendor_behind_a_vendor_refuses_is_not_ours(
    status: int, metadata: Any
) -> None:
    said = {"message": "Incorrect API key provided.", "code": status}
    answer = {"error": {**said, "metadata": metadata}}
    for error in (failure(status, answer), error_in_answer(answer)):
        assert error.disables_credential
        assert not error.counts_against_breaker
    assert failure(status, {"error": said}).counts_against_breaker
