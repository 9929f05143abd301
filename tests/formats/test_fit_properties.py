"""Property tests: every written request obeys the vendor's quirks, and nothing is dropped without
being named."""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.quirks import NO_MODEL, Quirks
from llm_routing.core.routing_table import Target
from llm_routing.formats.ignored_fields import has_effect
from llm_routing.formats.registry import FORMATS
from llm_routing.vendors import VENDORS
from tests.formats.vendor_requests import (
    ANTHROPIC,
    OPENAI,
    PLAIN,
    REASONING,
    call,
    function,
    result,
    target,
)

NAMES = st.text(min_size=1, max_size=80) | st.sampled_from(["f", "a.b", "mcp__x", "x" * 200])
IDS = st.text(min_size=1, max_size=60) | st.sampled_from(["call_1", "toolu_1", "abcDEF123"])
TEXTS = st.text(min_size=1, max_size=5).filter(str.strip)
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
WORDS = (
    "type properties required anyOf oneOf allOf items enum const format $ref $defs not minimum "
    "additionalProperties patternProperties description"
)
SCHEMAS = st.recursive(
    SCALARS | st.sampled_from(["object", "string", "array", "#/$defs/a", "#"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*WORDS.split(" "), "a"]), inner, max_size=4)
    ),
    max_leaves=15,
).filter(lambda value: isinstance(value, dict))

OPENAI_FIELDS = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "max_tokens": st.integers(1, 100_000),
    "max_completion_tokens": st.integers(1, 100_000),
    "stop": st.lists(TEXTS, max_size=20) | TEXTS,
    "seed": st.integers(),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "logprobs": st.booleans(),
    "logit_bias": st.just({"1": 1}) | st.just({}),
    "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "max", "?"]),
    "reasoning": st.sampled_from([{"effort": "low"}, {"enabled": False}, {"max_tokens": 9}]),
    "thinking": st.sampled_from([{"type": "disabled"}, {"type": "adaptive"}]),
    "service_tier": st.sampled_from(["auto", "flex", "priority"]),
    "store": st.booleans(),
    "metadata": st.just({"k": "v"}),
    "user": st.text(max_size=80),
    "verbosity": st.just("low"),
    "prompt_cache_key": TEXTS,
    "min_p": st.floats(0, 1),
    "parallel_tool_calls": st.booleans(),
    "modalities": st.sampled_from([["text"], ["text", "audio"]]),
    "n": st.integers(1, 2),
    "future": SCALARS,
}


@st.composite
def openai_bodies(draw: st.DrawFn) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 4))):
        role = draw(st.sampled_from(["system", "developer", "user", "assistant", "calls"]))
        if role == "calls":
            ids = draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
            calls = [call(one, draw(NAMES)) for one in ids]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            messages += [result(one) for one in ids]
            continue
        more = {"cache_control": {"type": "ephemeral"}} if draw(st.booleans()) else {}
        text = draw(TEXTS)
        content = draw(st.sampled_from([text, [{"type": "text", "text": text, **more}]]))
        messages.append({"role": role, "content": content, **more})
    messages.append({"role": "user", "content": "?"})
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    tools = [
        function(name, draw(SCHEMAS), **draw(st.sampled_from([{}, {"strict": True}])))
        for name in names
    ]
    fields = draw(st.fixed_dictionaries({}, optional=OPENAI_FIELDS))
    if tools:
        fields["tools"] = tools
        named = {"type": "function", "function": {"name": names[0]}}
        fields["tool_choice"] = draw(st.sampled_from(["auto", "required", "none", named]))
    return {"model": "m", "messages": messages, **fields}


ANTHROPIC_FIELDS = {
    "temperature": st.floats(0, 1),
    "top_k": st.integers(0, 9),
    "stop_sequences": st.lists(TEXTS, max_size=20),
    "thinking": st.sampled_from(
        [
            {"type": "disabled"},
            {"type": "adaptive"},
            {"type": "enabled", "budget_tokens": 1024},
            {"type": "enabled", "budget_tokens": 90_000},
        ]
    ),
    "output_config": st.sampled_from([{"effort": "low"}, {"effort": "max"}]),
    "service_tier": st.sampled_from(["auto", "standard_only"]),
    "container": TEXTS,
    "metadata": st.just({"user_id": "u"}),
    "future": SCALARS,
}


@st.composite
def anthropic_bodies(draw: st.DrawFn) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
    for _ in range(draw(st.integers(0, 3))):
        ids = draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
        blocks: list[Any] = [
            {"type": "tool_use", "id": one, "name": draw(NAMES), "input": {}} for one in ids
        ]
        if draw(st.booleans()):
            blocks.insert(0, {"type": "thinking", "thinking": "T", "signature": ""})
        results: list[Any] = [
            {"type": "tool_result", "tool_use_id": one, "content": "r"} for one in ids
        ]
        if draw(st.booleans()):
            results.append({"type": "text", "text": draw(TEXTS)})
        messages += [
            {"role": "assistant", "content": blocks},
            {"role": "user", "content": results},
        ]
    fields = draw(st.fixed_dictionaries({}, optional=ANTHROPIC_FIELDS))
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    if names:
        fields["tools"] = [
            {"name": name, "input_schema": draw(SCHEMAS), "strict": draw(st.booleans())}
            for name in names
        ]
        fields["tool_choice"] = draw(
            st.sampled_from([{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": names[0]}])
        )
    limit = draw(st.integers(1, 100_000))
    return {"model": "m", "max_tokens": limit, "messages": messages, **fields}


BODIES = {OPENAI: openai_bodies(), ANTHROPIC: anthropic_bodies()}
CAPABILITIES = st.sampled_from([PLAIN, REASONING, PLAIN - {"json_schema"}, frozenset({"chat"})])


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
@settings(max_examples=40)
@given(data=st.data())
def test_every_written_request_obeys_the_vendors_quirks(
    caller: str, vendor: str, data: st.DataObject
) -> None:
    body = data.draw(BODIES[caller])
    aim = target(vendor, data.draw(CAPABILITIES), limit=data.draw(st.sampled_from([None, 8192])))
    before = copy.deepcopy(body)
    request = FORMATS[caller].read_request(body)
    try:
        wire = FORMATS[aim.provider.format].write_request(request, aim)
    except UnsupportedRequest:
        assert body == before
        return
    sent = json.loads(wire.body)

    assert body == before
    assert wire == FORMATS[aim.provider.format].write_request(request, aim)
    if aim.provider.format == OPENAI:
        _check_openai(sent, aim)
    else:
        _check_anthropic(sent, aim)
    _check_ids(body, sent)
    if caller == aim.provider.format:
        _check_nothing_vanished(body, sent, wire.ignored, aim)
    else:
        assert not has_effect("future", body.get("future")) or "future" in wire.ignored


def _check_openai(sent: dict[str, Any], aim: Target) -> None:
    quirks = aim.provider.quirks
    if quirks.fields is not None:
        assert sent.keys() <= quirks.fields
    assert not sent.keys() & quirks.refused_fields
    assert sent.keys() & {"max_tokens", "max_completion_tokens"} <= {quirks.limit_field}
    limit = aim.model.max_output_tokens
    assert limit is None or sent.get(quirks.limit_field, 0) <= limit
    if aim.model.refuses_sampling:
        assert not sent.keys() & {"temperature", "top_p"}
        if aim.provider.vendor == "openai":
            assert not sent.keys() & quirks.reasoning_refuses
            assert not sent.get("tools") or sent["reasoning_effort"] == "none"
    stop = sent.get("stop")
    assert not isinstance(stop, list) or len(stop) <= (quirks.max_stops or len(stop))
    assert (sent.get("temperature") or 0) <= (quirks.max_temperature or 2)
    effort = sent.get("reasoning_effort")
    assert effort in (None, "none", *(quirks.efforts or (effort,)))
    if quirks.thinking_switch and sent.get("tool_choice") not in (None, "auto", "none"):
        assert sent["thinking"] == {"type": "disabled"}
    _check_messages(sent["messages"], quirks)
    for tool in sent.get("tools", ()):
        schema = tool["function"]["parameters"]
        assert schema["type"] == "object"
        assert isinstance(schema["properties"], dict)
        assert not schema.keys() & {"anyOf", "oneOf", "allOf", "enum", "not"}
    for name in _names(sent):
        _check_name(name, quirks.max_tool_name_length)


def _check_messages(messages: Sequence[dict[str, Any]], quirks: Quirks) -> None:
    roles = [message["role"] for message in messages]
    pairs = list(pairwise(roles))
    assert quirks.developer_role or "developer" not in roles
    assert not quirks.system_first or "system" not in roles[1:]
    assert not quirks.assistant_after_tools or ("tool", "user") not in pairs
    for message in messages:
        if quirks.message_fields is not None:
            assert message.keys() <= quirks.message_fields
        assert not message.keys() & quirks.refused_message_fields
        calls = message.get("tool_calls") or ()
        if calls and quirks.thinking_field:
            assert isinstance(message[quirks.thinking_field], str)
        if calls and quirks.thought_signatures:
            assert calls[0]["extra_content"]["google"]["thought_signature"]
        rule = quirks.tool_ids
        for one in calls:
            assert quirks.thought_signatures or "extra_content" not in one
            if rule is not None:
                least = rule.max_length if rule.is_exact else 1
                assert re.fullmatch(
                    f"[a-zA-Z0-9{rule.others}]{{{least},{rule.max_length}}}", one["id"]
                )
    if quirks.marks_cache == NO_MODEL:
        assert '"cache_control": {' not in json.dumps(messages)


def _check_anthropic(sent: dict[str, Any], aim: Target) -> None:
    quirks, capabilities = aim.provider.quirks, aim.model.capabilities
    limit = aim.model.max_output_tokens
    assert limit is None or sent["max_tokens"] <= limit
    thinking = sent.get("thinking", {}).get("type")
    if "reasoning" not in capabilities:
        assert thinking in (None, "disabled")
    if aim.model.refuses_sampling:
        assert thinking != "enabled"
        assert not sent.keys() & {"temperature", "top_p", "top_k"}
    if thinking == "enabled":
        assert 1024 <= sent["thinking"]["budget_tokens"] < sent["max_tokens"]
    strict = [tool for tool in sent.get("tools", ()) if tool.get("strict")]
    assert "json_schema" in capabilities or not strict
    for name in _names(sent):
        _check_name(name, quirks.max_tool_name_length)
    assert json.dumps([sent.get("system"), sent["messages"]]).count('"cache_control": {') <= 4


def _check_name(name: str, longest: int | None) -> None:
    assert longest is None or re.fullmatch(f"[a-zA-Z0-9_-]{{1,{longest}}}", name)


def _names(sent: dict[str, Any]) -> Iterator[str]:
    """Returns the tool names in every place that has one."""
    for tool in sent.get("tools", ()):
        yield tool.get("function", tool)["name"]
    choice = sent.get("tool_choice")
    if isinstance(choice, dict) and (name := choice.get("function", choice).get("name")):
        yield name
    for message in sent["messages"]:
        for one in message.get("tool_calls") or ():
            yield one["function"]["name"]
        content = message["content"]
        for block in content if isinstance(content, list) else ():
            if block["type"] == "tool_use":
                yield block["name"]


def _ids(body: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Returns the ids of calls and of results, in order."""
    called: list[str] = []
    returned: list[str] = []
    for message in body["messages"]:
        called += [one["id"] for one in message.get("tool_calls") or ()]
        if message["role"] == "tool":
            returned.append(message["tool_call_id"])
        content = message["content"]
        for block in content if isinstance(content, list) else ():
            if block["type"] == "tool_use":
                called.append(block["id"])
            elif block["type"] == "tool_result":
                returned.append(block["tool_use_id"])
    return called, returned


def _check_ids(body: dict[str, Any], sent: dict[str, Any]) -> None:
    """Checks that an id is the same in every place and differs between calls."""
    before, after = _ids(body), _ids(sent)
    pairs = {*zip(before[0], after[0], strict=True), *zip(before[1], after[1], strict=True)}
    assert len({one for one, _ in pairs}) == len(pairs)
    assert len({other for _, other in pairs}) == len(pairs)


# Equivalent fields.
SAME = {
    "seed": ("random_seed",),
    "max_tokens": ("max_completion_tokens",),
    "max_completion_tokens": ("max_tokens",),
    "reasoning": ("reasoning_effort", "thinking"),
    "thinking": ("reasoning_effort",),
    "reasoning_effort": ("thinking",),
}


def _check_nothing_vanished(
    body: dict[str, Any], sent: dict[str, Any], ignored: Sequence[str], aim: Target
) -> None:
    named = {name.split(".")[0] for name in ignored}
    for name, value in body.items():
        is_said = any(word in sent for word in (name, *SAME.get(name, ())))
        if is_said or not has_effect(name, value):
            continue
        if name in ("tools", "tool_choice") and body.get("tool_choice") == "none":
            continue
        # Of two settings for thinking one counts; without a budget there is none.
        if name in ("thinking", "reasoning") and (
            named & {"reasoning", "thinking", "reasoning_effort"} or value == {"type": "adaptive"}
        ):
            continue
        assert name in named, (name, value, sent, ignored)


@given(openai_bodies())
def test_a_conversation_survives_conversion_in_both_directions(body: dict[str, Any]) -> None:
    """What Anthropic's format can express of OpenAI's comes back from it."""
    body = {"model": "m", "messages": body["messages"], "tools": body.get("tools", [])}
    request = FORMATS[OPENAI].read_request(body)
    there = json.loads(FORMATS[ANTHROPIC].write_request(request, target("anthropic")).body)
    again = FORMATS[ANTHROPIC].read_request(there)
    back = json.loads(FORMATS[OPENAI].write_request(again, target("sandbox")).body)

    assert _ids(back) == _ids(there)
    _check_ids(body, back)
    assert _texts(back) == _texts(body)


def _texts(body: dict[str, Any]) -> dict[str, str]:
    """Returns all text of each role; system messages may be in different places."""
    said: dict[str, str] = {}
    for message in body["messages"]:
        content = message["content"] or ""
        role = "system" if message["role"] == "developer" else message["role"]
        parts = content if isinstance(content, list) else [{"text": content}]
        said[role] = said.get(role, "") + "".join(part["text"] for part in parts)
    return {role: text.replace("\n", "") for role, text in said.items() if text}
