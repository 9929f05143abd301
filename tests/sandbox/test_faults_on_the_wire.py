"""Each fault as bytes on the connection."""

import asyncio
import json
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from llm_routing.sandbox import Outcome, Sandbox

from .exchanges import both_formats, content_chunks
from .raw import CHAT, EMBEDDINGS, MESSAGES, Carried, chat, connect, fetch, message, request


def events(carried: Carried) -> list[str]:
    return carried.payload.decode().split("\n\n")[:-1]


@both_formats
async def test_an_error_status_has_the_envelope_of_the_format(
    vendor: Sandbox, path: str, body: Any
):
    answer = await fetch(vendor, path, body('Hi [[status=503 retry_after=-1 message="so be it"]]'))
    assert answer.status == 503
    assert answer.headers["retry-after"] == "-1"
    assert answer.json["error"]["message"] == "so be it"
    assert answer.ended_properly


@pytest.mark.parametrize(
    ("directive", "openai_error", "anthropic_error"),
    [
        ("status=400", "invalid_request_error", "invalid_request_error"),
        ("status=401", "invalid_request_error", "authentication_error"),
        ("status=403", "insufficient_permissions", "permission_error"),
        ("status=404", "invalid_request_error", "not_found_error"),
        ("status=413", "invalid_request_error", "request_too_large"),
        ("status=429", "rate_limit_error", "rate_limit_error"),
        ("status=500", "server_error", "api_error"),
        ("status=529", "server_error", "overloaded_error"),
    ],
)
async def test_each_status_has_the_error_type_of_its_vendor(
    vendor: Sandbox, directive: str, openai_error: str, anthropic_error: str
):
    one = await fetch(vendor, CHAT, chat(), x_sandbox_fault=directive)
    other = await fetch(vendor, MESSAGES, message(), x_sandbox_fault=directive)
    assert one.json["error"]["type"] == openai_error
    assert other.json["error"]["type"] == anthropic_error


async def test_an_error_has_the_requested_code(vendor: Sandbox):
    answer = await fetch(vendor, CHAT, chat("[[status=429 code=insufficient_quota]]"))
    assert answer.json["error"]["code"] == "insufficient_quota"


async def test_a_status_below_300_comes_with_the_answer(vendor: Sandbox):
    answer = await fetch(vendor, CHAT, chat("[[status=202]]"))
    assert answer.status == 202
    assert answer.json["choices"]


@both_formats
async def test_a_cut_stream_ends_after_the_requested_number_of_chunks(
    vendor: Sandbox, path: str, body: Any
):
    for number in (0, 1, 3):
        answer = await fetch(vendor, path, body(f"Hi [[cut_after={number}]]", stream=True))
        assert answer.status == 200
        assert content_chunks(answer.body) == number
        assert not answer.ended_properly
    assert [entry.outcome for entry in vendor.journal.entries] == [Outcome.DROPPED_BY_FAULT] * 3


@both_formats
async def test_a_cut_body_ends_in_the_middle(vendor: Sandbox, path: str, body: Any):
    answer = await fetch(vendor, path, body("Hi [[cut_after=0]]"))
    assert 0 < len(answer.body) < int(answer.headers["content-length"])


async def test_a_cut_tool_call_is_cut_inside_its_arguments(vendor: Sandbox):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"required": ["a", "b"]}}}
    body = chat("call f [[cut_after=2]]", tools=[tool], stream=True)
    answer = await fetch(vendor, CHAT, body)
    assert answer.body.count(b'"tool_calls"') == 2
    assert not answer.ended_properly


@both_formats
async def test_a_disconnect_sends_no_bytes(vendor: Sandbox, path: str, body: Any):
    assert (await fetch(vendor, path, body("[[disconnect]]"))).data == b""


@both_formats
async def test_a_reset_is_not_an_orderly_close(vendor: Sandbox, path: str, body: Any):
    for directive in ("reset", "reset cut_after=2"):
        reader, writer = await connect(vendor)
        writer.write(request(path, body(f"Hi [[{directive} token_delay=0.02]]", stream=True)))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
    assert {entry.outcome for entry in vendor.journal.entries} == {Outcome.DROPPED_BY_FAULT}


@both_formats
async def test_only_pings_are_sent_until_the_client_disconnects(
    vendor: Sandbox, path: str, body: Any
):
    reader, writer = await connect(vendor)
    writer.write(request(path, body("Hi [[pings]]", stream=True)))
    data = b""
    async with asyncio.timeout(90):
        while data.count(b": the sandbox") < 3:
            data += await reader.read(65536)
    assert content_chunks(data) == 0
    writer.close()
    await settled(vendor)
    assert vendor.journal.entries[-1].outcome is Outcome.CLIENT_DISCONNECTED


@both_formats
async def test_a_stalled_stream_lasts_until_the_client_disconnects(
    vendor: Sandbox, path: str, body: Any
):
    reader, writer = await connect(vendor)
    writer.write(request(path, body("Hi [[stall_after=2]]", stream=True)))
    data = b""
    async with asyncio.timeout(90):
        while content_chunks(data) < 2:
            data += await reader.read(65536)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            data += await reader.read(65536)
    assert vendor.journal.entries[-1].outcome is Outcome.IN_PROGRESS
    writer.close()
    await writer.wait_closed()
    await settled(vendor)
    entry = vendor.journal.entries[-1]
    assert entry.outcome is Outcome.CLIENT_DISCONNECTED
    assert entry.events >= 3
    assert entry.duration is not None


async def test_a_stalled_body_stops_in_the_middle(vendor: Sandbox):
    reader, writer = await connect(vendor)
    writer.write(request(CHAT, chat("[[stall_after=0]]")))
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(Carried(head).headers["content-length"])
    await reader.readexactly(length // 2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.read(1)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("directive", ["delay=60", "first_token_delay=60", "token_delay=60"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_delay_postpones_the_following_data(vendor: Sandbox, directive: str, stream: bool):
    reader, writer = await connect(vendor)
    writer.write(request(CHAT, chat(f"Hi [[{directive}]]", stream=stream)))
    data = b""
    try:
        async with asyncio.timeout(0.2):
            while not reader.at_eof():
                data += await reader.read(65536)
    except TimeoutError:
        pass
    assert (data == b"") == (directive == "delay=60")
    whole = Carried(data).ended_properly if data else False
    # A whole body has no delays between tokens.
    assert whole == (directive == "token_delay=60" and not stream)
    if stream:
        assert content_chunks(data) == (1 if directive == "token_delay=60" else 0)
    writer.close()
    await writer.wait_closed()
    await settled(vendor)


async def test_short_delays_are_applied(vendor: Sandbox):
    directive = "[[delay=0.01 first_token_delay=0.01 token_delay=0.001]]"
    answer = await fetch(vendor, CHAT, chat(f"Hi {directive}", stream=True))
    assert events(answer)[-1] == "data: [DONE]"


@both_formats
async def test_a_malformed_event_is_inserted_between_valid_ones(
    vendor: Sandbox, path: str, body: Any
):
    good = events(await fetch(vendor, path, body("Hi", stream=True)))
    bad = events(await fetch(vendor, path, body("Hi [[malformed_after=1]]", stream=True)))
    assert len(bad) == len(good) + 1
    (broken,) = [event for event in bad if not is_readable(event)]
    assert content_chunks("".join(bad[: bad.index(broken)]).encode()) == 1


@both_formats
async def test_a_chunk_of_content_is_broken_and_the_rest_is_not(
    vendor: Sandbox, path: str, body: Any
):
    good = events(await fetch(vendor, path, body("Hi", stream=True)))
    bad = events(await fetch(vendor, path, body("Hi [[hole_after=1]]", stream=True)))
    assert len(bad) == len(good)
    (broken,) = [event for event in bad if not is_readable(event)]
    assert is_readable(broken + "}")
    assert content_chunks("".join(bad[: bad.index(broken)]).encode()) == 1


@both_formats
async def test_a_malformed_body_is_not_json(vendor: Sandbox, path: str, body: Any):
    for directive in ("malformed_after=0", "truncate_json"):
        answer = await fetch(vendor, path, body(f"Hi [[{directive}]]"))
        assert answer.ended_properly
        with pytest.raises(ValueError, match=r"line 1"):
            json.loads(answer.body)


@both_formats
async def test_a_truncated_stream_ends_inside_an_event(vendor: Sandbox, path: str, body: Any):
    answer = await fetch(vendor, path, body("Hi [[truncate_json]]", stream=True))
    assert answer.ended_properly
    assert not answer.payload.endswith(b"\n")
    assert content_chunks(answer.payload.rpartition(b"\n\n")[0]) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_bad_framing_is_an_error_to_an_http_client(vendor: Sandbox, stream: bool):
    body = chat("Hi [[bad_framing_after=1]]", stream=stream)
    answer = await fetch(vendor, CHAT, body)
    assert answer.body.endswith(b"\r\nthis is no chunk size\r\n")
    async with aiohttp.ClientSession() as session:
        # If headers and body arrive together, aiohttp already fails on the headers.
        with pytest.raises(aiohttp.ClientError, match="chunk size"):
            async with session.post(vendor.url + CHAT, json=body) as response:
                await response.read()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_wrong_content_length_is_larger_than_the_body(vendor: Sandbox, stream: bool):
    answer = await fetch(vendor, CHAT, chat("Hi [[wrong_content_length]]", stream=stream))
    assert int(answer.headers["content-length"]) == len(answer.body) + 64
    assert content_chunks(answer.body) > 3 if stream else json.loads(answer.body)


@both_formats
async def test_an_error_is_sent_with_status_200(vendor: Sandbox, path: str, body: Any):
    whole = await fetch(vendor, path, body("Hi [[error_in_200 message=oops]]"))
    assert whole.status == 200
    assert whole.json["error"]["message"] == "oops"
    streamed = await fetch(vendor, path, body("Hi [[error_in_200=2 message=oops]]", stream=True))
    *before, last = events(streamed)
    assert content_chunks("".join(before).encode()) == 2
    assert json.loads(last.partition("data: ")[2])["error"]["message"] == "oops"
    assert streamed.ended_properly


async def test_an_html_page_is_sent_as_by_a_proxy(vendor: Sandbox):
    answer = await fetch(vendor, CHAT, chat("[[html]]"))
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (await fetch(vendor, MESSAGES, message("[[html status=502]]"))).status == 502


async def test_a_redirect_points_to_the_sandbox_itself(vendor: Sandbox):
    answer = await fetch(vendor, CHAT, chat("[[redirect=/v1/models]]"))
    assert (answer.status, answer.headers["location"]) == (307, "/v1/models")
    moved = await fetch(vendor, CHAT, chat("[[redirect=/v1/models status=302]]"))
    assert moved.status == 302
    for elsewhere in ("//example.com", "https://example.com", "/\\example.com"):
        refused = await fetch(vendor, CHAT, chat(), x_sandbox_fault=f"redirect={elsewhere}")
        assert refused.status == 400


async def test_an_answer_can_have_no_choices(vendor: Sandbox):
    assert (await fetch(vendor, CHAT, chat("[[empty_choices]]"))).json["choices"] == []
    assert (await fetch(vendor, MESSAGES, message("[[empty_choices]]"))).json["content"] == []
    assert (await fetch(vendor, EMBEDDINGS, {"model": "e", "input": "[[empty_choices]]"})).json[
        "data"
    ] == []
    streamed = await fetch(vendor, CHAT, chat("[[empty_choices]]", stream=True))
    assert json.loads(events(streamed)[0].removeprefix("data: "))["choices"] == []


async def test_usage_finish_and_done_can_be_left_out(vendor: Sandbox):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    for directive, missing in (
        ("no_usage", '"usage"'),
        ("no_finish", '"finish_reason":"stop"'),
        ("no_done", "[DONE]"),
    ):
        plain = await fetch(vendor, CHAT, chat("Hi", **options))
        bare = await fetch(vendor, CHAT, chat(f"Hi [[{directive}]]", **options))
        assert missing in plain.payload.decode()
        assert missing not in bare.payload.decode()
        assert bare.ended_properly
    for directive, missing in (
        ("no_usage", '"usage"'),
        ("no_finish", "message_delta"),
        ("no_done", "message_stop"),
    ):
        plain = await fetch(vendor, MESSAGES, message("Hi", stream=True))
        bare = await fetch(vendor, MESSAGES, message(f"Hi [[{directive}]]", stream=True))
        assert missing in plain.payload.decode()
        assert missing not in bare.payload.decode()
    assert "usage" not in (await fetch(vendor, CHAT, chat("[[no_usage]]"))).json
    assert "usage" not in (await fetch(vendor, MESSAGES, message("[[no_usage]]"))).json
    embedded = await fetch(vendor, EMBEDDINGS, {"model": "e", "input": "x [[no_usage]]"})
    assert "usage" not in embedded.json
    unfinished = (await fetch(vendor, CHAT, chat("[[no_finish]]"))).json
    assert unfinished["choices"][0]["finish_reason"] is None


@both_formats
async def test_streams_can_be_split_or_have_crlf_or_comments(vendor: Sandbox, path: str, body: Any):
    plain = await fetch(vendor, path, body("Grüß dich, 你好", stream=True))
    split = await fetch(vendor, path, body("Grüß dich, 你好 [[split=3]]", stream=True))
    crlf = await fetch(vendor, path, body("Grüß dich, 你好 [[crlf]]", stream=True))
    comments = await fetch(vendor, path, body("Grüß dich, 你好 [[comments]]", stream=True))
    assert b"\r\n3\r\n" in split.body
    assert len(split.payload) == len(plain.payload)
    assert crlf.payload.count(b"\r\n\r\n") == len(events(plain))
    assert comments.payload.count(b"\n\n") == 2 * len(events(plain))
    assert comments.payload.startswith(b": ")


async def test_a_client_that_disconnects_from_a_stream_is_logged(
    vendor: Sandbox, openai_client: AsyncOpenAI
):
    stream = await openai_client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "[[words=5000 token_delay=0.01]]"}],
        stream=True,
    )
    await anext(aiter(stream))
    await stream.close()
    await settled(vendor)
    entry = vendor.journal.entries[-1]
    assert entry.outcome is Outcome.CLIENT_DISCONNECTED
    assert 0 < entry.events < 5000


async def test_the_sandbox_waits_for_a_client_that_does_not_read(vendor: Sandbox):
    reader, writer = await connect(vendor)
    writer.write(request(CHAT, chat("[[words=100000]]", stream=True)))
    await reader.readexactly(1)
    await asyncio.sleep(0.3)
    waiting = vendor.journal.entries[-1].dict()
    writer.transport.abort()
    await settled(vendor)
    assert waiting["outcome"] == "in_progress"
    assert vendor.journal.entries[-1].outcome is Outcome.CLIENT_DISCONNECTED
    assert vendor.journal.entries[-1].events < 100_000


async def test_the_official_client_retries_after_the_time_in_the_header(vendor: Sandbox):
    vendor.journal.script("status=503 retry_after=0", "disconnect")
    async with AsyncOpenAI(base_url=vendor.openai_url, api_key="x", max_retries=2) as client:
        await client.embeddings.create(model="e", input="Hi")
    assert [entry.status for entry in vendor.journal.entries] == [503, None, 200]


async def test_a_cut_is_a_connection_error_in_the_official_client(openai_client: AsyncOpenAI):
    stream = await openai_client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hi [[cut_after=2]]"}], stream=True
    )
    with pytest.raises(openai.APIConnectionError):
        async for _ in stream:
            pass


def is_readable(event: str) -> bool:
    data = event.partition("data: ")[2]
    try:
        json.loads(data)
    except ValueError:
        return data == "[DONE]"
    return True


async def settled(sandbox: Sandbox) -> None:
    """Waits until the last exchange has ended."""
    async with asyncio.timeout(90):
        while sandbox.journal.entries[-1].outcome is Outcome.IN_PROGRESS:
            await asyncio.sleep(0.01)
