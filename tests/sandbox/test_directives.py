"""Where directives may be given, and the answers' content that they change."""

import json
from typing import Any

import pytest

from llm_routing.sandbox import Sandbox

from .exchanges import both_formats, content_chunks
from .raw import CHAT, MESSAGES, chat, fetch, message


@both_formats
async def test_undocumented_fields_can_be_added(vendor: Sandbox, path: str, body: Any):
    whole = (await fetch(vendor, path, body("[[extra_fields]]"))).json
    inner = whole["choices"][0]["message"] if path == CHAT else whole["content"][0]
    assert whole["x_sandbox"] == inner["x_sandbox"]
    streamed = await fetch(vendor, path, body("[[extra_fields]]", stream=True))
    assert streamed.payload.count(b"x_sandbox") > 6


@both_formats
async def test_the_request_can_be_echoed(vendor: Sandbox, path: str, body: Any):
    sent = body("Hi [[echo_request]]", made_up={"deep": [1, None, "ü"]})
    whole = (await fetch(vendor, path, sent)).json
    text = (
        whole["choices"][0]["message"]["content"] if path == CHAT else whole["content"][0]["text"]
    )
    assert json.loads(text) == sent


@both_formats
async def test_the_answer_has_the_requested_number_of_words(vendor: Sandbox, path: str, body: Any):
    answer = await fetch(vendor, path, body("[[words=500]]", stream=True, max_tokens=1000))
    assert content_chunks(answer.payload) == 500


async def test_cached_tokens_are_counted_as_each_vendor_counts(vendor: Sandbox):
    directive = "cached_tokens=100 cache_write_tokens=10"
    plain = (await fetch(vendor, CHAT, chat())).json["usage"]["prompt_tokens"]
    one = (await fetch(vendor, CHAT, chat(), x_sandbox_fault=directive)).json["usage"]
    assert one["prompt_tokens"] == plain + 110
    assert one["prompt_tokens_details"]["cached_tokens"] == 100
    other = (await fetch(vendor, MESSAGES, message(), x_sandbox_fault=directive)).json["usage"]
    assert other["input_tokens"] == plain
    assert other["cache_read_input_tokens"] == 100
    assert other["cache_creation_input_tokens"] == 10


async def test_an_answer_can_be_a_refusal_or_filtered(vendor: Sandbox):
    refused = (await fetch(vendor, CHAT, chat("[[refusal]]"))).json["choices"][0]
    assert refused["message"]["content"] is None
    assert refused["message"]["refusal"]
    streamed = await fetch(vendor, CHAT, chat("[[refusal]]", stream=True))
    assert b'"delta":{"refusal":' in streamed.payload
    filtered = (await fetch(vendor, CHAT, chat("[[content_filter]]"))).json["choices"][0]
    assert filtered["finish_reason"] == "content_filter"
    for directive in ("refusal", "content_filter"):
        answer = (await fetch(vendor, MESSAGES, message(f"[[{directive}]]"))).json
        assert answer["stop_reason"] == "refusal"


async def test_a_directive_can_be_part_of_the_model_name(vendor: Sandbox):
    body = chat("Hi", model="sandbox-economy[[status=500]]")
    assert (await fetch(vendor, CHAT, body)).status == 500
    assert vendor.journal.entries[-1].model == "sandbox-economy"
    named = chat("Hi", model="sandbox-economy[[words=1]]")
    assert (await fetch(vendor, CHAT, named)).json["model"] == "sandbox-economy"


async def test_a_directive_for_one_model_does_not_affect_others(vendor: Sandbox):
    text = "Hi [[status=503 model=sandbox-premium]]"
    premium = await fetch(vendor, CHAT, chat(text, model="sandbox-premium"))
    economy = await fetch(vendor, CHAT, chat(text, model="sandbox-economy"))
    assert (premium.status, economy.status) == (503, 200)
    assert 'You said: "Hi".' in economy.json["choices"][0]["message"]["content"]


async def test_directives_in_the_text_take_precedence(vendor: Sandbox):
    vendor.journal.script("status=501 code=scripted")
    body = chat("[[status=504]]", model="m[[status=503]]")
    answer = await fetch(vendor, CHAT, body, x_sandbox_fault="status=502")
    assert answer.status == 504
    assert answer.json["error"]["code"] == "scripted"


async def test_double_brackets_without_a_directive_are_plain_text(vendor: Sandbox):
    answer = await fetch(vendor, CHAT, chat("if [[ -f x ]]; see [[Home page]]"))
    text = answer.json["choices"][0]["message"]["content"]
    assert "if [[ -f x ]]; see [[Home page]]" in text


@pytest.mark.parametrize("where", ["text", "header", "model"])
async def test_an_invalid_directive_is_rejected(vendor: Sandbox, where: str):
    bad = "status=teapot"
    body = chat(f"[[{bad}]]" if where == "text" else "Hi")
    if where == "model":
        body["model"] = f"m[[{bad}]]"
    answer = await fetch(vendor, CHAT, body, x_sandbox_fault=bad if where == "header" else "")
    assert answer.status == 400
    assert "status" in answer.json["error"]["message"]
