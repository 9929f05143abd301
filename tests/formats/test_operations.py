"""Operations: the target's format does the work, and lengths replace missing counts."""

import json
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from llm_routing.core.content import (
    AnswerFormat,
    FilePart,
    ForeignPart,
    ForeignTool,
    ImagePart,
    Message,
    RefusalPart,
    ResponseFormat,
    Role,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from llm_routing.core.embeddings import EmbeddingRequest
from llm_routing.core.errors import RateLimited, TruncatedStream, UnsupportedRequest
from llm_routing.core.events import AnswerStarted, TextDelta
from llm_routing.core.ports import Operation
from llm_routing.core.quirks import Quirks
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.threads import ThreadIds
from llm_routing.core.types import LLMRequest, Thread, Usage
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.operations import (
    MAX_KEPT_BYTES,
    ChatOperation,
    CountTokensOperation,
    EmbeddingOperation,
)


def target(wire_format: str) -> Target:
    provider = ProviderSpec("p", "vendor", wire_format, "https://example.com")
    return Target(provider, ModelSpec("p", "m"))


OPENAI, ANTHROPIC = target("openai_chat"), target("anthropic_messages")

REQUEST = LLMRequest(
    messages=(
        Message(Role.USER, (TextPart("12345"), ImagePart(url="https://example.com/a.png"))),
        Message(
            Role.ASSISTANT,
            (ThinkingPart("123"), RefusalPart("12"), ToolCallPart("id", "name", '{"a":1}')),
        ),
        Message(Role.TOOL, (ToolResultPart("id", (TextPart("1234"), ImagePart(data="x"))),)),
        Message(Role.USER, (ForeignPart("openai_chat", {"type": "input_audio"}),)),
    ),
    system_prompt="1234567890",
)

CHAT_ANSWERS = {
    "openai_chat": {
        "id": "chatcmpl-1",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    },
    "anthropic_messages": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    },
}


@pytest.mark.parametrize("at", [OPENAI, ANTHROPIC], ids=lambda at: at.provider.format)
def test_a_chat_is_written_and_read_in_the_target_s_format(at: Target) -> None:
    operation = ChatOperation(LLMRequest((Message(Role.USER, (TextPart("Hi"),)),)))
    wire = operation.build(at)
    assert json.loads(wire.body)["model"] == "m"
    assert wire.path == ("/chat/completions" if at is OPENAI else "/v1/messages")
    completion = operation.parse(at, json.dumps(CHAT_ANSWERS[at.provider.format]).encode())
    assert completion.format == at.provider.format
    assert operation.usage(completion) == Usage(3, 2)
    assert operation.output_length(completion) == len("Hello")


def test_the_prompt_length_includes_all_text_and_estimates_images() -> None:
    expected = 10 + 5 + 3 + 2 + len("name") + len('{"a":1}') + 4 + 2 * 4 * 765
    assert ChatOperation(REQUEST).input_length == expected
    assert CountTokensOperation(REQUEST).input_length == expected


PDF = {"type": "base64", "media_type": "application/pdf", "data": "A" * 4000}


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (ImagePart(data="A" * 4000, media_type="image/png"), 765),
        (ImagePart(url="https://a.test/b.png", detail="low"), 85),
        (ToolResultPart("c1", (ImagePart(url="https://a.test/b.png"), TextPart("four"))), 766),
        (FilePart(data="A" * 4000), 2000),
        (FilePart(url="https://a.test/b.pdf"), 2000),
        (ForeignPart("anthropic_messages", {"type": "document", "source": PDF}), 2000),
        (
            ForeignPart("anthropic_messages", {"source": {**PDF, "data": "A" * 100_001}}),
            4000,
        ),
        (ForeignPart("anthropic_messages", {"source": {"type": "url", "url": "x"}}), 2000),
        (ForeignPart("openai_chat", {"type": "file", "file": {"file_data": "A" * 9}}), 2000),
        (ForeignPart("anthropic_messages", {"source": {"type": "text", "data": "A" * 40}}), 10),
        (ForeignPart("a", {"source": {"type": "content", "content": "A" * 40}}), 10),
        (
            ForeignPart("a", {"source": {"content": [{"text": "A" * 40}, 3]}, "title": "Four"}),
            11,
        ),
        (ForeignPart("openai_chat", {"type": "input_audio", "input_audio": "x"}), 0),
    ],
)
def test_the_length_of_images_and_documents_is_estimated(part: Any, tokens: int) -> None:
    operation = CountTokensOperation(LLMRequest((Message(Role.USER, (part,)),)))
    assert operation.input_length == 4 * tokens


def test_the_prompt_length_includes_the_tools() -> None:
    tools = (Tool("name", "Says it.", {"type": "object"}), ForeignTool("openai_chat", {"a": 1}))
    request = LLMRequest((Message(Role.USER, (TextPart("Hi"),)),), tools=tools)
    assert ChatOperation(request).input_length == 2
    length = 2 + 4 + 8 + len('{"type":"object"}') + len('{"a":1}')
    assert CountTokensOperation(request).input_length == length


@pytest.mark.parametrize(
    "operation",
    [
        ChatOperation(REQUEST),
        CountTokensOperation(REQUEST),
        EmbeddingOperation(EmbeddingRequest(("a",))),
    ],
    ids=lambda operation: operation.name,
)
@pytest.mark.parametrize("at", [OPENAI, ANTHROPIC], ids=lambda at: at.provider.format)
def test_errors_are_read_in_the_target_s_format(operation: Operation, at: Target) -> None:
    assert isinstance(operation.map_error(at, 429, {}, b"{}"), RateLimited)


def test_streams_are_read_in_the_target_s_format() -> None:
    operation = ChatOperation(REQUEST)
    chunk = {"id": "1", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    frames = operation.stream_parser(OPENAI).feed(f"data: {json.dumps(chunk)}\n\n".encode())
    assert TextDelta("Hi") in frames[0].events
    delta = {"type": "text_delta", "text": "Hi"}
    events = (
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        ("content_block_delta", {"index": 0, "delta": delta}),
    )
    data = "".join(
        f"event: {name}\ndata: {json.dumps({'type': name} | body)}\n\n" for name, body in events
    )
    frames = operation.stream_parser(ANTHROPIC).feed(data.encode())
    assert TextDelta("Hi") in [event for frame in frames for event in frame.events]


def test_embeddings_are_sent_only_to_targets_that_offer_them() -> None:
    operation = EmbeddingOperation(EmbeddingRequest(("abc", (1, 2))))
    assert operation.input_length == 3 + 8
    wire = operation.build(OPENAI)
    assert wire.path == "/embeddings"
    answer = {
        "object": "list",
        "model": "m",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0]},
            {"object": "embedding", "index": 1, "embedding": [0.5]},
        ],
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    embeddings = operation.parse(OPENAI, json.dumps(answer).encode())
    assert embeddings.vectors == ((1.0,), (0.5,))
    assert operation.usage(embeddings) == Usage(4, 0)
    assert operation.output_length(embeddings) == 0
    with pytest.raises(UnsupportedRequest, match="p has no embeddings"):
        operation.build(ANTHROPIC)


def test_tokens_are_counted_by_the_vendor_and_cost_nothing() -> None:
    operation = CountTokensOperation(LLMRequest((Message(Role.USER, (TextPart("Hi"),)),)))
    assert operation.build(ANTHROPIC).path == "/v1/messages/count_tokens"
    assert operation.parse(ANTHROPIC, b'{"input_tokens": 14}') == 14
    assert operation.usage(14) == Usage()
    assert operation.output_length(14) == 0


class TestContinued:
    def test_a_continuation_appends_the_text_and_subtracts_its_tokens(self) -> None:
        asked = LLMRequest(
            (Message(Role.USER, (TextPart("Why?"),)),), max_tokens=100, stream=True, user="u"
        )
        for aim in (OPENAI, ANTHROPIC):
            continued = ChatOperation(asked).continued("Because of the")
            assert continued is not None
            body = json.loads(continued.build(aim).body)
            assert body["messages"][-1]["role"] == "assistant"
            assert "Because of the" in json.dumps(body["messages"][-1])
            assert (body["max_tokens"], body["stream"]) == (96, True)

    def test_a_continuation_asks_for_at_least_one_token(self) -> None:
        asked = LLMRequest((Message(Role.USER, (TextPart("Why?"),)),), max_tokens=1)
        continued = ChatOperation(asked).continued("Because of the")
        assert continued is not None
        assert json.loads(continued.build(OPENAI).body)["max_tokens"] == 1

    @pytest.mark.parametrize(
        "asked",
        [
            structs.replace(REQUEST, n=2),
            structs.replace(REQUEST, logprobs=True),
            structs.replace(REQUEST, response_format=ResponseFormat(AnswerFormat.JSON_OBJECT)),
        ],
    )
    def test_only_a_single_plain_text_is_continued(self, asked: LLMRequest) -> None:
        assert ChatOperation(asked).continued("x") is None

    def test_an_answer_with_text_format_is_continued(self) -> None:
        asked = structs.replace(REQUEST, response_format=ResponseFormat(AnswerFormat.TEXT))
        assert ChatOperation(asked).continued("x") is not None

    def test_other_operations_are_not_continued(self) -> None:
        operations: list[Operation[Any]] = [
            EmbeddingOperation(EmbeddingRequest(("a",))),
            CountTokensOperation(REQUEST),
        ]
        assert [operation.continued("x") for operation in operations] == [None, None]


def test_a_request_is_written_once_per_target() -> None:
    operation = ChatOperation(LLMRequest((Message(Role.USER, (TextPart("Hi"),)),)))
    first, second = operation.build(OPENAI), operation.build(ANTHROPIC)
    assert first.body != second.body
    assert operation.build(OPENAI) is first
    assert operation.build(ANTHROPIC) is second


def test_a_large_request_is_not_kept() -> None:
    text = "x" * MAX_KEPT_BYTES
    operation = ChatOperation(LLMRequest((Message(Role.USER, (TextPart(text),)),)))
    built = operation.build(OPENAI)
    assert operation.build(OPENAI) is not built
    assert operation.build(OPENAI) == built


def test_answers_in_a_thread_have_sealed_ids() -> None:
    request = structs.replace(REQUEST, thread=Thread())
    ids = ThreadIds(b"secret", "acme")
    operation = ChatOperation(request, thread_ids=ids)
    message = {"id": "msg_1", "type": "message", "content": [{"type": "text", "text": "msg_1"}]}
    start = {"type": "message_start", "message": {**message, "content": []}}
    stream = f": hi\n\nevent: message_start\ndata: {json.dumps(start)}\n\n".encode()
    sealed = ids.sealed("msg_1", ANTHROPIC)

    whole = operation.parse(ANTHROPIC, json.dumps(message).encode())
    assert whole.id == json.loads(whole.raw)["id"] == sealed
    comment, begun = operation.stream_parser(ANTHROPIC).feed(stream)
    assert comment.raw == b": hi\n\n"
    assert isinstance(begun.events[0], AnswerStarted)
    assert begun.events[0].id == sealed
    assert json.loads(begun.raw.partition(b"data: ")[2])["message"]["id"] == sealed

    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    parser = operation.stream_parser(OPENAI)
    (frame,) = parser.feed(f"data: {json.dumps(chunk)}\n\n".encode())
    assert isinstance(frame.events[0], AnswerStarted)
    assert "_thr_" in frame.events[0].id
    assert parser.failure is None
    with pytest.raises(TruncatedStream):
        parser.close()
    answer = {"id": "c", "choices": [{"index": 0, "message": {"content": "Hi"}}]}
    assert "_thr_" in operation.parse(OPENAI, json.dumps(answer).encode()).id
    assert operation.continued("Hi") is None


def test_a_thread_is_written_in_the_vendors_words_or_named() -> None:
    body = {
        "model": "m",
        "max_tokens": 5,
        "messages": [],
        "thread": {"type": "continue", "previous_message_id": "sealed"},
    }
    request = structs.replace(AnthropicMessages().read_request(body), thread=Thread("msg_1"))
    holder = replace(
        ANTHROPIC, provider=replace(ANTHROPIC.provider, quirks=Quirks(holds_threads=True))
    )
    wire = ChatOperation(request).build(holder)
    assert json.loads(wire.body)["thread"] == {
        "type": "continue",
        "previous_message_id": "msg_1",
    }
    created = AnthropicMessages().read_request(
        body | {"thread": {"type": "create"}, "messages": [{"role": "user", "content": "Hi"}]}
    )
    assert created.cache is False
    assert json.loads(ChatOperation(created).build(holder).body)["thread"] == {"type": "create"}
    wire = ChatOperation(created).build(ANTHROPIC)
    assert "thread" not in json.loads(wire.body)
    assert "thread" in wire.ignored
