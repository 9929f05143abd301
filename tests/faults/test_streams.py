"""Streams that break: before the first content another target answers, later the route decides."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from . import answers
from .callers import CALLERS, STREAMING, Caller, Reply
from .conftest import Bench
from .upstream import (
    Act,
    Exchange,
    behave,
    bytes_then_silence,
    chunked,
    drip,
    endless,
    head,
    say_nothing,
    shaped,
)

VENDORS = ("debugging", "debugging:premium")
COMMENT = b": still here\n\n"
MODELS = {"debugging": ("alpha", "beta"), "debugging:premium": ("opus", "sonnet")}


def slow(*names: Any) -> Any:
    return pytest.param(*names, marks=pytest.mark.faults)


async def ask_all(bench: Bench, model: str, faults: str = "", **more: Any) -> list[Reply]:
    """Returns the replies to all streaming callers, which run concurrently."""
    more.setdefault("deadline", 10)
    return await asyncio.gather(
        *(bench.ask(caller, model, faults=faults, **more) for caller in STREAMING)
    )


@pytest.mark.parametrize("model", ["debugging", slow("debugging:premium")])
@pytest.mark.parametrize(
    "faults",
    [
        "cut_after=2",
        slow("error_in_200=2"),
        "hole_after=3",
        slow("bad_framing_after=2"),
        slow("truncate_json"),
        slow("wrong_content_length no_finish no_done"),
    ],
)
async def test_a_break_after_the_first_content_is_reported_in_the_stream_and_recorded(
    bench: Bench, model: str, faults: str
) -> None:
    first, _ = MODELS[model]
    for reply in await ask_all(
        bench, model, f"[[{faults} model={first} words=40 token_delay=0.02]]"
    ):
        assert reply.status == 200
        assert reply.text
        assert reply.error
        assert not reply.is_whole
        (record,) = await bench.records(reply)
        assert (record.model, record.outcome) == (first, "failure")
        assert record.output_tokens > 0
        assert record.cost
        assert record.time_to_first_token_ms is not None


@pytest.mark.parametrize("model", ["debugging", slow("debugging:premium")])
async def test_a_missing_finish_is_a_failure_and_a_missing_done_is_not(
    bench: Bench, model: str
) -> None:
    for reply in await ask_all(bench, model, "[[no_finish no_done token_delay=0.02]]"):
        assert reply.error == "truncated_stream"
        assert not reply.is_whole
    for reply in await ask_all(bench, model, "[[no_done]]"):
        assert reply.is_whole, reply.body[-300:]
        assert not reply.error


def garbled(events: Sequence[bytes]) -> list[bytes]:
    return [*events[:-3], b"data: {broken\n\n", *events[-3:]]


def garbled_at_the_end(events: Sequence[bytes]) -> list[bytes]:
    return [*events[:-3], b"data: {broken\n\n"]


@pytest.mark.parametrize("model", ["debugging", slow("debugging:premium")])
async def test_a_malformed_event_is_skipped_if_the_rest_is_complete(
    bench: Bench, model: str
) -> None:
    await bench.break_with(shaped(garbled, 0.02), *MODELS[model])
    for reply in await ask_all(bench, model):
        assert reply.text == answers.TEXT
        assert reply.is_whole, reply.body
        assert not reply.error


@pytest.mark.parametrize("model", ["debugging", slow("debugging:premium")])
async def test_a_malformed_event_is_a_failure_if_the_rest_may_be_incomplete(
    bench: Bench, model: str
) -> None:
    await bench.break_with(shaped(garbled_at_the_end, 0.02), *MODELS[model])
    for reply in await ask_all(bench, model):
        assert reply.error in ("malformed_answer", "truncated_stream")
        assert not reply.is_whole


def cut_early(events: Sequence[bytes]) -> list[bytes]:
    """Truncates the chunk of the third word before that word."""
    cut = [*events]
    place = next(at for at, event in enumerate(events) if answers.PIECES[2][2:5].encode() in event)
    name, data = cut[place].split(b"data: ")
    cut[place] = name + b"data: " + data[:22] + b"\n\n"
    return cut


@pytest.mark.parametrize("model", ["debugging", "debugging:premium"])
async def test_a_truncated_chunk_is_a_failure(bench: Bench, model: str) -> None:
    await bench.break_with(shaped(cut_early, 0.02), *MODELS[model])
    for reply in await ask_all(bench, model):
        assert reply.error == "malformed_answer"
        assert reply.text == "".join(answers.PIECES[:2])
        assert not reply.is_whole


def crlf(events: Sequence[bytes]) -> list[bytes]:
    return [event.replace(b"\n", b"\r\n") for event in events]


def commented(events: Sequence[bytes]) -> list[bytes]:
    return [part for event in events for part in (COMMENT, b":\n\n", event)]


def one_byte_each(events: Sequence[bytes]) -> list[bytes]:
    return [bytes((byte,)) for byte in b"".join(events)]


def with_byte_order_mark(events: Sequence[bytes]) -> list[bytes]:
    return [b"\xef\xbb\xbf" + events[0], *events[1:]]


@pytest.mark.parametrize("model", VENDORS)
@pytest.mark.parametrize(
    "act",
    [
        shaped(lambda events: one_byte_each(crlf(commented(events)))),
        slow(shaped(crlf)),
        slow(shaped(commented)),
        slow(shaped(one_byte_each)),
        slow(shaped(with_byte_order_mark)),
        slow(shaped(lambda events: [b"".join(events)])),
        slow(drip()),
    ],
)
async def test_the_cuts_between_bytes_make_no_difference(
    bench: Bench, model: str, act: Act
) -> None:
    await bench.break_with(act, *MODELS[model])
    for reply in await ask_all(bench, model):
        assert reply.text == answers.TEXT
        assert reply.is_whole
        assert not reply.error
    assert {reply.headers["x-llm-model"] for reply in bench.client.replies} == {MODELS[model][0]}


def cut_in_bytes(length: int) -> Act:
    """Cuts each request one byte later than the last, from the first byte of the first event."""

    async def act(exchange: Exchange) -> None:
        make = answers.anthropic_events if exchange.is_anthropic else answers.openai_events
        data = b"".join(make())[:length]
        await exchange.send(head("Transfer-Encoding: chunked", stream=True) + chunked(data))
        await asyncio.sleep(0.02)  # so that it is on its way when it breaks
        exchange.close()

    return act


def kept(events: Sequence[bytes], length: int) -> str:
    """Returns the text of the events that are complete within the first `length` bytes."""
    text, size = "", 0
    for event in events:
        size += len(event)
        if size > length:
            break
        data = event.partition(b"data: ")[2]
        if data.startswith(b"{"):
            value = json.loads(data)
            for choice in value.get("choices", []):
                text += choice["delta"].get("content") or ""
            text += value.get("delta", {}).get("text", "")
    return text


@pytest.mark.faults
@pytest.mark.parametrize("model", VENDORS)
async def test_a_stream_cut_at_any_byte_gives_the_text_before_the_cut(
    bench: Bench, model: str
) -> None:
    first, second = MODELS[model]
    make = answers.openai_events if model == "debugging" else answers.anthropic_events
    events = make()
    size = sum(map(len, events))
    finished = sum(map(len, events[: -2 if model == "debugging" else -1]))
    # From 1: an empty chunk is the end of a body, and its connection is used again.
    for length in range(1, size, 29):
        await bench.break_with(cut_in_bytes(length), first)
        before = kept(events, length)
        for reply in await ask_all(bench, model):
            answered_by = reply.headers["x-llm-model"]
            if not before:
                assert (answered_by, reply.is_whole) == (second, True), length
                continue
            assert answered_by == first
            assert reply.text == before, length
            assert reply.is_whole != bool(reply.error)
            if length < finished - len(events[-2]):
                assert reply.error, length


@pytest.mark.parametrize(
    "act",
    [
        endless(head("Transfer-Encoding: chunked", stream=True), chunked(COMMENT), 0.05),
        slow(say_nothing),
        slow(bytes_then_silence(head("Transfer-Encoding: chunked", stream=True))),
        slow(
            bytes_then_silence(
                head("Transfer-Encoding: chunked", stream=True)
                + chunked(answers.openai_events()[0])
            )
        ),
    ],
    ids=["pings", "silence", "a head", "a role"],
)
async def test_a_missing_first_token_fails_over_without_a_retry(bench: Bench, act: Act) -> None:
    await bench.break_with(act, "alpha")
    await bench.provider("alpha", first_token_timeout=0.4)
    for reply in await ask_all(bench, "debugging"):
        assert reply.is_whole
        assert await bench.asked(reply) == ["alpha", "beta"]
        failed, _ = await bench.records(reply)
        assert failed.error_code == "first_token_timeout"
        assert failed.is_estimated


@pytest.mark.faults
async def test_a_first_token_that_is_late_at_every_target_is_a_timeout(bench: Bench) -> None:
    await bench.break_with(say_nothing, "alpha", "beta")
    for model in ("alpha", "beta"):
        await bench.provider(model, first_token_timeout=0.3)
    for reply in await ask_all(bench, "debugging"):
        assert reply.status == 504
        assert await bench.asked(reply) == ["alpha", "beta"]


async def test_a_silent_stream_ends_at_the_idle_limit(bench: Bench) -> None:
    await bench.provider("alpha", idle_timeout=1)
    for reply in await ask_all(bench, "debugging", "[[stall_after=2 words=30 token_delay=0.02]]"):
        assert reply.text
        assert reply.error == "idle_timeout"
        (record,) = await bench.records(reply)
        assert (record.error_code, record.outcome) == ("idle_timeout", "failure")
        assert record.output_tokens > 0


@pytest.mark.faults
async def test_pings_do_not_keep_a_silent_stream_alive_beyond_its_deadline(bench: Bench) -> None:
    start = head("Transfer-Encoding: chunked", stream=True)
    start += b"".join(chunked(event) for event in answers.openai_events()[:3])
    await bench.break_with(endless(start, chunked(COMMENT), 0.05), "alpha")
    for reply in await ask_all(bench, "debugging", deadline=1):
        assert reply.text
        assert reply.error
        assert not reply.is_whole


@pytest.mark.faults
async def test_an_endless_stream_is_cut_at_its_maximum_size(bench: Bench) -> None:
    start = head("Transfer-Encoding: chunked", stream=True)
    start += chunked(answers.openai_events()[0])
    piece = chunked(b"data: " + answers.openai_chunk({"content": "word " * 100}) + b"\n\n")
    await bench.break_with(endless(start, piece), "alpha")
    for reply in await ask_all(bench, "debugging"):
        assert reply.error == "answer_too_large"
        assert not reply.is_whole


def cut_words(pieces: Sequence[str]) -> Act:
    """Streams these words, then closes the connection."""

    async def act(exchange: Exchange) -> None:
        make = answers.anthropic_events if exchange.is_anthropic else answers.openai_events
        # The role, or the start of message and block, and the pieces themselves.
        events = make(pieces)[: len(pieces) + (2 if exchange.is_anthropic else 1)]
        data = b"".join(chunked(event) for event in events)
        await exchange.send(head("Transfer-Encoding: chunked", stream=True) + data)
        await asyncio.sleep(0.1)
        exchange.close()

    return act


def words_then(pieces: Sequence[str]) -> Act:
    """Streams a complete answer of these words."""

    async def act(exchange: Exchange) -> None:
        make = answers.anthropic_events if exchange.is_anthropic else answers.openai_events
        data = b"".join(chunked(event) for event in make(pieces)) + chunked(b"")
        await exchange.send(head("Transfer-Encoding: chunked", stream=True) + data)

    return act


async def broken_then_good(bench: Bench, caller: Caller, model: str) -> Reply:
    """The first target fails after two words; the second one has the rest."""
    await bench.break_with(behave, *MODELS[model])
    bench.raw.script.extend([cut_words(["one ", "two "]), words_then(["three ", "four"])])
    return await bench.ask(caller, model, deadline=10)


@pytest.mark.parametrize("model", ["debugging", slow("debugging:premium")])
async def test_with_continuation_the_next_target_completes_the_stream(
    bench: Bench, model: str
) -> None:
    await bench.route(
        tier="premium" if "premium" in model else "standard", stream_recovery="continue"
    )
    for caller in STREAMING:
        reply = await broken_then_good(bench, caller, model)
        assert reply.text == "one two three four", (caller, reply.body)
        assert reply.is_whole
        assert await bench.asked(reply) == list(MODELS[model])
        messages = json.loads(bench.raw.log[-1].body)["messages"]
        assert messages[-1]["role"] == "assistant"
        assert "one two" in json.dumps(messages[-1]["content"])
        broken, good = await bench.records(reply)
        assert broken.outcome == "failure"
        assert broken.output_tokens > 0
        assert good.outcome == "success"


@pytest.mark.faults
async def test_a_target_that_cannot_continue_is_not_called(bench: Bench) -> None:
    from llm_routing.models import ModelConfig

    await ModelConfig.objects.filter(model_id="beta").aupdate(capabilities=["chat", "streaming"])
    await bench.route(stream_recovery="continue")
    for caller in STREAMING:
        bench.raw.script.clear()
        reply = await broken_then_good(bench, caller, "debugging")
        assert reply.text == "one two "
        assert reply.error == "connection_lost"
        assert not reply.is_whole
        assert await bench.asked(reply) == ["alpha"]


@pytest.mark.parametrize("model", ["debugging", slow("debugging:premium")])
async def test_with_buffering_the_caller_notices_no_break(bench: Bench, model: str) -> None:
    await bench.route(
        tier="premium" if "premium" in model else "standard", stream_recovery="buffer"
    )
    first, second = MODELS[model]
    faults = f"[[cut_after=2 words=30 token_delay=0.02 model={first}]]"
    for reply in await ask_all(bench, model, faults):
        assert reply.is_whole, reply.body
        assert not reply.error
        assert f"This is {second}" in reply.text
        assert f"This is {first}" not in reply.body.decode()
        assert set(await bench.asked(reply)) == {first, second}


@pytest.mark.faults
async def test_with_buffering_a_break_of_every_target_is_an_error(bench: Bench) -> None:
    await bench.route(stream_recovery="buffer")
    for reply in await ask_all(bench, "debugging", "[[cut_after=2 words=30 token_delay=0.02]]"):
        assert reply.error, reply.body
        assert not reply.is_whole
        assert not reply.text


@pytest.mark.faults
async def test_stream_recovery_does_not_affect_plain_requests(bench: Bench) -> None:
    for recovery in ("continue", "buffer"):
        await bench.route(stream_recovery=recovery)
        for caller in CALLERS:
            if not caller.stream:
                reply = await bench.ask(caller, faults="[[cut_after=2 model=alpha]]", deadline=10)
                assert reply.is_whole
                assert reply.headers["x-llm-model"] == "beta"
