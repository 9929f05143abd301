"""Relays and writes streamed answers for callers of OpenAI Chat Completions."""

import json
from collections.abc import Iterable
from typing import Any

from openai.types.chat import ChatCompletionChunk

from llm_routing.core.errors import (
    AllTargetsFailed,
    IdleTimeout,
)
from llm_routing.core.events import (
    AnswerEnded,
    AnswerStarted,
    ChoiceFinished,
    Frame,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from llm_routing.core.types import FinishReason, LLMRequest, Usage
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from tests.formats.openai_chat.chunks import (
    DONE,
    FINISH,
    FIRST,
    STOPPED,
    STREAM,
    USAGE,
    chunk,
    delta,
    frames_of,
    text,
)


def request(*, include_usage: bool = False) -> LLMRequest:
    return LLMRequest((), model="debugging", stream=True, include_usage=include_usage)


def relayed(*chunks: bytes, include_usage: bool = False) -> bytes:
    renderer = OpenAIChat().stream_renderer(request(include_usage=include_usage))
    return b"".join(map(renderer.render, frames_of(*chunks))) + renderer.end()


def rendered(events: Iterable[StreamEvent], *, include_usage: bool = False) -> list[Any]:
    """Returns the chunks for a caller; the last one is `[DONE]`."""
    renderer = OpenAIChat().stream_renderer(
        request(include_usage=include_usage), created=1_700_000_000
    )
    stream = b"".join(
        renderer.render(Frame("anthropic_messages", b"event: x\n\n", (event,))) for event in events
    )
    parts = (stream + renderer.end()).decode().split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    bodies = [part.removeprefix("data: ") for part in parts[:-2]]
    for body in bodies:
        ChatCompletionChunk.model_validate_json(body, strict=True)
    return [json.loads(body) for body in bodies]


class TestRelaying:
    """Streams in this format are relayed byte by byte."""

    def test_the_vendors_bytes_are_relayed(self) -> None:
        assert relayed(STREAM, include_usage=True) == STREAM

    def test_a_chunk_with_only_usage_is_relayed_only_on_request(self) -> None:
        usage = chunk(usage=USAGE)
        for stream in (usage, b": about money\n" + usage.replace(b'": ', b'":\t')):
            assert relayed(FIRST, FINISH, stream, DONE) == FIRST + FINISH + DONE

    def test_usage_in_a_chunk_with_other_content_is_relayed(self) -> None:
        # Azure's filter results, usage with the last words, usage in every chunk.
        stream = (
            chunk(id="", prompt_filter_results=[{"prompt_index": 0}], usage=None),
            chunk(delta(role="assistant", content="a"), usage=USAGE),
            chunk(delta(unknown=1), usage=USAGE),
            chunk(delta("stop"), usage=USAGE),
            DONE,
        )
        assert relayed(*stream) == b"".join(stream)

    def test_a_missing_done_is_added(self) -> None:
        assert relayed(FIRST, FINISH) == FIRST + FINISH + DONE

    def test_comments_are_relayed(self) -> None:
        assert relayed(b": ping\n\n", text("a"), FINISH, DONE).startswith(b": ping\n\n")


class TestRendering:
    """Writes a stream of another format as OpenAI would."""

    def test_text_is_written(self) -> None:
        first, word, finish = rendered(
            [
                AnswerStarted("msg_1", "claude", Usage(3)),
                TextDelta("Hi"),
                ChoiceFinished(FinishReason.STOP),
                UsageReported(Usage(3, 2)),
                AnswerEnded(),
            ]
        )
        assert first.pop("id") == word.pop("id") == finish.pop("id")
        head = {
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "claude",
            "system_fingerprint": "",
        }
        assert first == head | {
            "choices": [
                {
                    "index": 0,
                    "delta": {"role": "assistant", "content": "", "refusal": None},
                    "logprobs": None,
                    "finish_reason": None,
                }
            ]
        }
        assert word["choices"][0]["delta"] == {"content": "Hi"}
        assert finish["choices"][0] == {
            "index": 0,
            "delta": {},
            "logprobs": None,
            "finish_reason": "stop",
        }

    def test_ids_look_like_openais(self) -> None:
        (chunk_,) = rendered([AnswerStarted("msg_1", "m")])
        assert chunk_["id"].startswith("chatcmpl-")
        (chunk_,) = rendered([AnswerStarted("chatcmpl-7", "m")])
        assert chunk_["id"] == "chatcmpl-7"

    def test_requested_usage_is_written_last(self) -> None:
        events: list[StreamEvent] = [
            AnswerStarted("msg_1", "m", Usage(3)),
            TextDelta("a"),
            STOPPED,
            UsageReported(Usage(3, 2)),
            AnswerEnded(),
        ]
        *chunks, last = rendered(events, include_usage=True)
        assert [chunk_["usage"] for chunk_ in chunks] == [None, None, None]
        assert last["choices"] == []
        assert last["usage"]["total_tokens"] == 5
        assert all("usage" not in chunk_ for chunk_ in rendered(events))

    def test_unknown_usage_is_written_as_zero(self) -> None:
        *_, last = rendered([TextDelta("a"), STOPPED], include_usage=True)
        assert last["usage"]["total_tokens"] == 0

    def test_usage_from_the_start_is_used(self) -> None:
        *_, last = rendered([AnswerStarted("i", "m", Usage(3)), STOPPED], include_usage=True)
        assert last["usage"]["prompt_tokens"] == 3

    def test_thinking_refusals_and_calls_are_written(self) -> None:
        deltas = [
            chunk_["choices"][0]["delta"]
            for chunk_ in rendered(
                [
                    AnswerStarted("msg_1", ""),
                    ThinkingDelta("hm"),
                    ThinkingEnded(signature="s"),
                    RefusalDelta("no"),
                    ToolCallStarted(0, "toolu_1", "f"),
                    ToolCallDelta(0, "{}"),
                    ToolCallStarted(1, "call_2", "g"),
                    ChoiceFinished(FinishReason.TOOL_CALLS),
                ]
            )
        ]
        call_id = deltas[3]["tool_calls"][0]["id"]
        assert call_id.startswith("call_")
        assert deltas[1:] == [
            {"reasoning_content": "hm"},
            {"refusal": "no"},
            {
                "tool_calls": [
                    {
                        "index": 0,
                        "id": call_id,
                        "type": "function",
                        "function": {"name": "f", "arguments": ""},
                    }
                ]
            },
            {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
            {
                "tool_calls": [
                    {
                        "index": 1,
                        "id": "call_2",
                        "type": "function",
                        "function": {"name": "g", "arguments": ""},
                    }
                ]
            },
            {},
        ]

    def test_every_choice_begins_with_its_role(self) -> None:
        chunks = rendered(
            [TextDelta("a"), TextDelta("b", 1), ChoiceFinished(FinishReason.LENGTH, 2)]
        )
        seen = [
            (chunk_["choices"][0]["index"], "role" in chunk_["choices"][0]["delta"])
            for chunk_ in chunks
        ]
        assert seen == [(0, True), (0, False), (1, True), (1, False), (2, True), (2, False)]
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert chunks[0]["model"] == "debugging"

    def test_pings_of_another_format_are_dropped(self) -> None:
        renderer = OpenAIChat().stream_renderer(request())
        assert renderer.render(Frame("anthropic_messages", b"event: ping\n\n")) == b""


def test_an_error_ends_the_stream() -> None:
    renderer = OpenAIChat().stream_renderer(request(include_usage=True))
    error = AllTargetsFailed("All failed.", attempts=(), last=IdleTimeout("silent"))
    data = renderer.error(error, "req-1")
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert json.loads(data[6:])["error"]["code"] == "all_targets_failed"
    assert renderer.end() == b""
