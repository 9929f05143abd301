"""Streams that deviate from OpenAI's form: callers of every format get the same answer, whatever
the line ends and wherever the bytes are cut."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

from llm_routing.core.accumulator import Accumulator
from llm_routing.core.errors import MalformedAnswer
from llm_routing.core.events import Frame
from llm_routing.core.types import Completion, LLMRequest
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.base import AnswerDefaults, StreamRenderer
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from tests.formats.anthropic_messages.stream_samples import ANTHROPIC, block, delta
from tests.formats.openai_chat.sample_chunks import (
    CALLED,
    DONE,
    FIRST,
    HI,
    STOP,
    YOU,
    called,
    chunk,
    said,
)
from tests.formats.openai_chat.stream_samples import AZURE, OPENAI, PLAIN
from tests.formats.stream_samples import Sample, event

HEAD = AnswerDefaults("request-1", 1_700_000_000, "model-1")
EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
BOM = b"\xef\xbb\xbf"
LINE_ENDS = [b"\r\n", b"\r"]


def frames_of(sample: Sample, pieces: Iterable[bytes]) -> list[Frame]:
    wire_format = AnthropicMessages() if sample in ANTHROPIC else OpenAIChat()
    parser = wire_format.stream_parser(HEAD)
    frames: list[Frame] = []
    for piece in pieces:
        frames += parser.feed(piece)
        assert parser.failure is None
    return frames + list(parser.close())


def renderers() -> dict[str, StreamRenderer]:
    request = LLMRequest((), model="debugging", stream=True)
    counted = LLMRequest((), model="debugging", stream=True, include_usage=True)
    return {
        "openai": OpenAIChat().stream_renderer(request, created=2),
        "openai with usage": OpenAIChat().stream_renderer(counted, created=2),
        "anthropic": AnthropicMessages().stream_renderer(counted),
    }


def answers(sample: Sample, pieces: Iterable[bytes]) -> dict[str, bytes]:
    """Returns the answers that callers receive, by kind."""
    frames = frames_of(sample, pieces)
    return {
        caller: b"".join([*map(renderer.render, frames), renderer.end()])
        for caller, renderer in renderers().items()
    }


def summed(sample: Sample) -> Completion:
    accumulator = Accumulator()
    for frame in frames_of(sample, [sample.stream]):
        for one in frame.events:
            accumulator.add(one)
    return accumulator.completion()


def bodies(stream: bytes) -> list[Any]:
    """Returns the data of a stream's events, without comments and `[DONE]`."""
    lines = [line for line in stream.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line[6:]) for line in lines if line != b"data: [DONE]"]


@pytest.mark.parametrize("sample", OPENAI + ANTHROPIC, ids=str)
def test_every_line_end_and_every_cut_gives_the_same_bytes(sample: Sample) -> None:
    expected = answers(sample, [sample.stream])
    for head in (b"", BOM):
        for line_end in (b"\n", *LINE_ENDS):
            stream = head + sample.stream.replace(b"\n", line_end)
            assert answers(sample, [stream]) == expected
            assert answers(sample, [stream[at : at + 1] for at in range(len(stream))]) == expected


@pytest.mark.parametrize("line_end", LINE_ENDS)
@pytest.mark.parametrize("sample", [PLAIN, AZURE, ANTHROPIC[0]], ids=str)
def test_one_cut_anywhere_gives_the_same_bytes(sample: Sample, line_end: bytes) -> None:
    expected = answers(sample, [sample.stream])
    stream = BOM + sample.stream.replace(b"\n", line_end)
    for at in range(len(stream)):
        assert answers(sample, [stream[:at], stream[at:]]) == expected


@pytest.mark.parametrize("sample", OPENAI + ANTHROPIC, ids=str)
def test_the_events_match_the_meaning_of_the_sample(sample: Sample) -> None:
    (choice,) = summed(sample).choices
    assert choice.text == sample.text
    assert [(call.name, json.loads(call.arguments or "{}")) for call in choice.tool_calls] == list(
        sample.calls
    )
    assert choice.finish_reason is not None
    assert choice.finish_reason.value == sample.finish
    thinking = [getattr(part, "text", "") for part in choice.content[:1]]
    assert thinking == [sample.thinking] or not sample.thinking


@pytest.mark.parametrize("sample", [one for one in OPENAI + ANTHROPIC if one.is_complete], ids=str)
def test_complete_chunks_are_relayed(sample: Sample) -> None:
    caller = "openai with usage" if sample in OPENAI else "anthropic"
    assert answers(sample, [sample.stream])[caller] == sample.stream


@pytest.mark.parametrize("sample", OPENAI + ANTHROPIC, ids=str)
def test_anthropics_client_reads_the_answer(sample: Sample) -> None:
    snapshot = None
    buffers: dict[int, bytes] = {}
    events = answers(sample, [sample.stream])["anthropic"].split(b"\n\n")
    for one in events:
        name, _, data = one.partition(b"\ndata: ")
        if not name.startswith(b"event: ") or name == b"event: ping":
            assert not data or name == b"event: ping"
            continue
        body = EVENT.validate_json(data)
        assert name == b"event: " + body.type.encode()
        snapshot = accumulate_event(event=body, current_snapshot=snapshot, json_bufs=buffers)
    assert snapshot is not None
    texts = [one.text for one in snapshot.content if one.type == "text"]
    calls = [(one.name, one.input) for one in snapshot.content if one.type == "tool_use"]
    assert "".join(texts) == sample.text
    assert calls == list(sample.calls)
    assert snapshot.usage.output_tokens >= 0


@pytest.mark.parametrize("caller", ["openai", "openai with usage"])
@pytest.mark.parametrize("sample", OPENAI + ANTHROPIC, ids=str)
def test_a_strict_openai_client_reads_the_answer(sample: Sample, caller: str) -> None:
    stream = answers(sample, [sample.stream])[caller]
    assert stream.endswith(DONE)
    stream.decode()
    chunks = bodies(stream)
    roles: list[int] = []
    named: list[int] = []
    for body in chunks:
        ChatCompletionChunk.model_validate_json(json.dumps(body), strict=True)
        assert body["id"] in ("", chunks[-1]["id"])
        for choice in body["choices"]:
            delta = choice["delta"]
            assert delta.get("role") in (None, "assistant")
            assert ("role" in delta) == (choice["index"] not in roles)
            roles.append(choice["index"])
            for call in delta.get("tool_calls") or ():
                assert ("id" in call) == ("type" in call) == (call["index"] not in named)
                named.append(call["index"])
        if caller == "openai":
            assert body["choices"] or body.get("prompt_filter_results")
    if caller != "openai" and sample.is_counted:
        assert sum(bool(body.get("usage")) for body in chunks) == 1


@pytest.mark.parametrize("sample", OPENAI + ANTHROPIC, ids=str)
def test_openais_client_reads_the_answer(sample: Sample) -> None:
    state = ChatCompletionStreamState()
    for body in bodies(answers(sample, [sample.stream])["openai"]):
        state.handle_chunk(ChatCompletionChunk.model_validate(body))
    (choice,) = state.current_completion_snapshot.choices
    message = choice.message
    assert message.role == "assistant"
    assert (message.content or "") == sample.text
    if "old" in sample.tags:
        assert message.function_call is not None
        assert json.loads(message.function_call.arguments) == sample.calls[0][1]
        return
    calls = [call.function for call in message.tool_calls or ()]
    assert [(call.name, json.loads(call.arguments or "{}")) for call in calls] == list(sample.calls)


@pytest.mark.parametrize("sample", OPENAI + ANTHROPIC, ids=str)
def test_a_strict_anthropic_client_reads_the_answer(sample: Sample) -> None:
    events = bodies(answers(sample, [sample.stream])["anthropic"])
    texts: list[str] = []
    calls: list[list[Any]] = []
    open_block: int | None = None
    assert events[0]["type"] == "message_start"
    assert events[-1]["type"] == "message_stop"
    for body in events:
        if body["type"] == "ping":
            continue
        EVENT.validate_json(json.dumps(body), strict=True)
        match body:
            case {"type": "content_block_start", "index": index, "content_block": block}:
                assert open_block is None
                open_block = index
                if block["type"] == "tool_use":
                    calls.append([block["name"], ""])
            case {"type": "content_block_delta", "index": index, "delta": delta}:
                assert index == open_block
                texts.append(delta.get("text", ""))
                if delta["type"] == "input_json_delta":
                    calls[-1][1] += delta["partial_json"]
            case {"type": "content_block_stop", "index": index}:
                assert index == open_block
                open_block = None
    assert "".join(texts) == sample.text
    assert [(name, json.loads(given or "{}")) for name, given in calls] == list(sample.calls)


def test_missing_ids_and_times_are_filled_in() -> None:
    bare = event({"choices": [{"delta": {"content": "Hi"}}]})
    (frame,) = OpenAIChat().stream_parser(HEAD).feed(bare)
    body = json.loads(frame.raw[6:])
    assert body == {
        "id": body["id"],
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "model-1",
        "choices": [
            {"index": 0, "delta": {"content": "Hi", "role": "assistant"}, "finish_reason": None}
        ],
    }
    assert body["id"].startswith("chatcmpl-")


def test_half_a_character_without_its_other_half_is_replaced() -> None:
    begun = {"index": 0, "id": "c", "type": "function", "function": {"name": "f"}}
    more = {"index": 0, "function": {"arguments": "[\ud83d"}}
    stream = [chunk(called(begun)), chunk(called(more)), chunk(called({"index": 0})), CALLED]
    sample = Sample("in vain", FIRST + b"".join(stream) + DONE)
    deltas = [
        body["choices"][0]["delta"].get("tool_calls")
        for body in bodies(answers(Sample("in vain", sample.stream), [sample.stream])["openai"])
    ]
    assert deltas[-1] == [{"index": 0, "function": {"arguments": "\ufffd"}}]
    accumulator = Accumulator()
    for frame in OpenAIChat().stream_parser().feed(sample.stream):
        for one in frame.events:
            accumulator.add(one)
    (choice,) = accumulator.completion().choices
    assert choice.tool_calls[0].arguments == "[\ufffd"


def test_half_a_character_in_the_input_of_a_custom_tool_is_joined() -> None:
    begun = {"index": 0, "id": "c", "custom": {"name": "f", "input": "\ud83d"}}
    more = {"index": 0, "custom": {"input": "\ude00"}}
    stream = FIRST + chunk(called(begun)) + chunk(called(more)) + CALLED + DONE
    frames = OpenAIChat().stream_parser().feed(stream)
    calls = [
        body["choices"][0]["delta"]["tool_calls"][0]
        for body in bodies(b"".join(frame.raw for frame in frames))[1:3]
    ]
    assert calls[0] | {"id": "c"} == {
        "index": 0,
        "id": "c",
        "type": "custom",
        "custom": {"name": "f", "input": ""},
    }
    assert calls[1] == {"index": 0, "custom": {"input": "😀"}}


HOLES = [
    event({"choices": {"0": said(content="lost")}}),
    chunk("lost"),
    chunk([said(content="lost")]),
    chunk({"index": 0, "delta": "two "}),
    chunk({"index": 0, "delta": ["two "]}),
    chunk({"index": 0, "text": "two "}),
    chunk(said(content={"text": "lost"})),
    chunk(said(content=5)),
    chunk(said(content=[{"type": "text", "text": {"value": "lost"}}])),
    chunk(said(content=[["lost"]])),
    chunk(said(content=[{"type": "thinking", "thinking": {"text": "lost"}}])),
    chunk(said(refusal={"text": "lost"})),
    chunk(said(tool_calls={"0": {"function": {"name": "f"}}})),
    chunk(called("f")),
    chunk(called({"index": 0, "function": "f"})),
    chunk(called({"index": 0, "function": {"name": {"x": 1}}})),
    chunk(called({"index": 0, "function": {"name": "f", "arguments": 5}})),
    chunk(said(function_call="f")),
    event({"delta": "lost"}),
    event({"message": {"content": "lost"}, "done": False}),
    event({"type": "content_block_delta", "index": 0, "delta": {"text": "lost"}}),
]


@pytest.mark.parametrize("hole", HOLES)
def test_a_chunk_of_the_wrong_shape_is_malformed(hole: bytes) -> None:
    parser = OpenAIChat().stream_parser()
    parser.feed(FIRST + HI)
    with pytest.raises(MalformedAnswer, match="could not be read"):
        parser.feed(hole)


@pytest.mark.parametrize("hole", HOLES)
def test_a_malformed_chunk_after_the_finish_is_ignored(hole: bytes) -> None:
    parser = OpenAIChat().stream_parser()
    frames = [*parser.feed(FIRST + HI + STOP + hole + DONE)]
    assert parser.failure is None
    assert b"".join(frame.raw for frame in frames) == FIRST + HI + STOP + DONE


@pytest.mark.parametrize(
    "message",
    [
        {"content": {"a": 1}},
        {"content": 5},
        {"content": [5]},
        {"content": [{"type": "text", "text": 5}]},
        {"content": None, "tool_calls": {"0": {}}},
        {"content": None, "tool_calls": ["f"]},
        {"content": None, "tool_calls": [{"id": "c", "function": ["f"]}]},
        {"content": None, "function_call": ["f"]},
        {"content": None, "refusal": 5},
    ],
)
def test_a_whole_answer_of_the_wrong_shape_is_malformed(message: dict[str, Any]) -> None:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    with pytest.raises(MalformedAnswer, match="could not be read"):
        OpenAIChat().read_response(json.dumps(body).encode())


IMPOSSIBLE = {"prompt_tokens": -3, "completion_tokens": 2}


@pytest.mark.parametrize("usage", [IMPOSSIBLE, None, "many", [5]])
def test_null_usage_is_sent_only_on_request(usage: Any) -> None:
    stream = FIRST + HI + YOU + STOP + chunk(usage=usage) + DONE
    sample = Sample("dropped", stream)
    parser = OpenAIChat().stream_parser()
    renderer = renderers()["openai"]
    assert b"".join(map(renderer.render, parser.feed(sample.stream))) == (
        FIRST + HI + YOU + STOP + DONE
    )


def test_repaired_text_deltas_use_the_fast_path(monkeypatch: Any) -> None:
    seen: list[bytes] = []
    decode = json.loads

    def watched(data: bytes) -> Any:
        seen.append(data)
        return decode(data)

    monkeypatch.setattr("llm_routing.formats.openai_chat.read_stream.decode", watched)
    monkeypatch.setattr("llm_routing.formats.event_stream.decode", watched)
    words = [f"w{number} " for number in range(100)]
    role = [
        chunk(said(role="assistant", content=word), obfuscation="x" * (len(word) % 2))
        for word in words
    ]
    parser = OpenAIChat().stream_parser()
    shown = b"".join(frame.raw for piece in role for frame in parser.feed(piece))
    assert len(seen) <= 4
    deltas = [body["choices"][0]["delta"] for body in bodies(shown)]
    assert [delta["content"] for delta in deltas] == words
    assert [delta.get("role") for delta in deltas] == ["assistant"] + [None] * 99


@pytest.mark.parametrize(
    "odd",
    [
        chunk(said(role="assistant", content="Hi"), id="\ud83d")
        + chunk(called({"function": {"name": "f"}}), id="\ud83d"),
        chunk(called({"index": True, "id": -1, "function": {"name": "f"}})),
    ],
)
def test_malformed_ids_and_numbers_are_repaired(odd: bytes) -> None:
    stream = answers(Sample("odd", odd), [odd + CALLED + DONE])["openai"]
    for body in bodies(stream):
        ChatCompletionChunk.model_validate_json(json.dumps(body), strict=True)


@pytest.mark.parametrize(
    "value", [{"type": ["text_delta"]}, {"type": {}}, {"type": "text_delta", "text": 5.5}]
)
def test_a_malformed_delta_of_anthropic_is_an_error(value: Any) -> None:
    begun = ANTHROPIC[0].stream.partition(b"event: ping")[0]
    half = delta(0, "text_delta", text="\ud83d")
    parser = AnthropicMessages().stream_parser()
    parser.feed(begun + half)
    with pytest.raises(MalformedAnswer):
        parser.feed(block("content_block_delta", index=0, delta=value))
