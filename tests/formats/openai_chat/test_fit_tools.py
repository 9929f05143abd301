"""Fits tools to vendors of OpenAI Chat Completions."""

import json
import re
from typing import Any

import pytest

from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.types import LLMRequest, LLMResponse, RoutingFacts
from llm_routing.formats.operations import ChatOperation
from llm_routing.formats.registry import FORMATS
from tests.formats.vendor_requests import (
    ANTHROPIC,
    OPENAI,
    PLAIN,
    USER,
    call,
    function,
    result,
    sent,
    target,
    tool,
    tool_result,
    tool_use,
)

LONG = "mcp__files.read__" + "x" * 60


class TestNames:
    def question(self, caller: str, **more: Any) -> LLMRequest:
        messages: list[Any]
        if caller == OPENAI:
            messages = [
                USER,
                {"role": "assistant", "tool_calls": [call("a", LONG)]},
                {**result("a"), "name": LONG},
            ]
            more = {
                "tools": [function(LONG), function("plain")],
                "tool_choice": {"type": "function", "function": {"name": LONG}},
                **more,
            }
        else:
            messages = [
                USER,
                {"role": "assistant", "content": [tool_use("toolu_1", LONG)]},
                {"role": "user", "content": [tool_result("toolu_1")]},
            ]
            more = {
                "max_tokens": 9,
                "tools": [tool(LONG), tool("plain")],
                "tool_choice": {"type": "tool", "name": LONG},
                **more,
            }
        body = {"model": "m", "messages": messages, **more}
        return FORMATS[caller].read_request(body)

    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    @pytest.mark.parametrize("vendor", ["openai", "groq", "mistral", "google", "deepseek"])
    def test_a_fitted_name_is_the_same_in_every_place(self, caller: str, vendor: str) -> None:
        wire = ChatOperation(self.question(caller)).build(target(vendor))

        body = json.loads(wire.body)
        name = body["tools"][0]["function"]["name"]
        assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", name)
        assert body["tool_choice"]["function"]["name"] == name
        assert body["messages"][1]["tool_calls"][0]["function"]["name"] == name
        assert body["messages"][2].get("name", name) == name
        assert body["tools"][1]["function"]["name"] == "plain"

    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    def test_the_answer_contains_the_callers_tool_name(self, caller: str) -> None:
        aim = target("openai")
        operation = ChatOperation(self.question(caller))
        name = json.loads(operation.build(aim).body)["tools"][0]["function"]["name"]
        calls = [call("call_1", name), call("call_2", "plain")]
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        answer = {
            "id": "chatcmpl-1",
            "model": "x",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        }

        completion = operation.parse(aim, json.dumps(answer).encode())
        facts = RoutingFacts("req-1", "openai", "big-1")
        shown = FORMATS[caller].write_response(LLMResponse(completion, facts))

        assert [one.name for one in completion.choices[0].tool_calls] == [LONG, "plain"]
        assert LONG.encode() in shown
        assert name.encode() not in shown

    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    def test_a_stream_contains_the_callers_tool_name(self, caller: str) -> None:
        aim = target("openai")
        request = self.question(caller, stream=True)
        operation = ChatOperation(request)
        name = json.loads(operation.build(aim).body)["tools"][0]["function"]["name"]
        head = {"id": "chatcmpl-1", "model": "x"}
        delta = {"role": "assistant", "tool_calls": [{**call("call_1", name), "index": 0}]}
        chunks: list[Any] = [
            {**head, "choices": [{"index": 0, "delta": delta}]},
            {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        ]
        lines = [*map(json.dumps, chunks), "[DONE]"]
        parser = operation.stream_parser(aim)
        renderer = FORMATS[caller].stream_renderer(request)

        frames = [*parser.feed("".join(f"data: {line}\n\n" for line in lines).encode())]
        assert parser.failure is None
        frames += parser.close()
        shown = b"".join(renderer.render(frame) for frame in frames) + renderer.end()

        assert LONG.encode() in shown
        assert name.encode() not in shown

    @pytest.mark.parametrize("vendor", ["mistral", "vllm", "groq"])
    def test_tools_that_are_not_allowed_are_left_out(self, vendor: str) -> None:
        allowed = [{"type": "function", "function": {"name": "f"}}]
        choice = {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": allowed},
        }

        body, ignored = sent(
            OPENAI, target(vendor), tools=[function("f"), function("g")], tool_choice=choice
        )

        assert [one["function"]["name"] for one in body["tools"]] == ["f"]
        assert body["tool_choice"] == "required"
        assert ignored == ()

    @pytest.mark.parametrize("vendor", ["openai", "mistral"])
    def test_an_empty_tool_list_is_left_out(self, vendor: str) -> None:
        fields = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}

        assert sent(OPENAI, target(vendor), **fields)[0].keys() == {"model", "messages"}

    def test_tools_are_left_out_if_none_is_allowed(self) -> None:
        choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}

        body, _ = sent(OPENAI, target("vllm"), tools=[function()], tool_choice=choice)

        assert body.keys() == {"model", "messages"}

    @pytest.mark.parametrize("vendor", ["openai", "mistral", "vllm"])
    def test_any_tool_is_written_as_openai_writes_it(self, vendor: str) -> None:
        body, _ = sent(OPENAI, target(vendor), tools=[function()], tool_choice="any")

        assert body["tool_choice"] == "required"

    def test_openai_is_sent_allowed_tools(self) -> None:
        allowed = [
            {"type": "function", "function": {"name": LONG}},
            {"type": "custom", "custom": {"name": "c"}},
        ]
        choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": allowed}}
        tools = [function(LONG), {"type": "custom", "custom": {"name": "c"}}]

        body, _ = sent(OPENAI, target("openai"), tools=tools, tool_choice=choice)

        name, own = body["tool_choice"]["allowed_tools"]["tools"]
        assert name["function"]["name"] == body["tools"][0]["function"]["name"]
        assert own == allowed[1]

    def test_an_answer_without_renamed_tools_is_relayed(self) -> None:
        request = FORMATS[OPENAI].read_request(
            {"model": "m", "messages": [USER], "tools": [function()]}
        )
        answer = (
            b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
            b'"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}'
        )

        completion = ChatOperation(request).parse(target("openai"), answer)

        assert (completion.format, completion.raw) == (OPENAI, answer)


class TestSchemas:
    @pytest.mark.parametrize("vendor", ["openai", "mistral", "groq", "vllm"])
    def test_a_tool_without_arguments_has_empty_properties(self, vendor: str) -> None:
        empty = {"type": "object", "properties": {}}
        anthropic, _ = sent(ANTHROPIC, target(vendor), tools=[tool("ping", {"type": "object"})])
        openai, _ = sent(
            OPENAI, target(vendor), tools=[{"type": "function", "function": {"name": "ping"}}]
        )

        assert anthropic["tools"][0]["function"]["parameters"] == empty
        assert openai["tools"][0]["function"]["parameters"] == empty

    @pytest.mark.parametrize("vendor", ["deepseek", "groq"])
    def test_a_json_schema_fails_over_if_the_model_does_not_support_it(self, vendor: str) -> None:
        schema = {"type": "object", "properties": {}}
        wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        without = target(vendor, PLAIN - {"json_schema"})

        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, without, response_format=wanted)
        with pytest.raises(UnsupportedRequest):
            sent(
                ANTHROPIC,
                without,
                output_config={"format": {"type": "json_schema", "schema": schema}},
            )
        assert sent(OPENAI, without, response_format={"type": "json_object"})
        assert sent(OPENAI, target(vendor), response_format=wanted)

    def test_a_combination_at_the_top_level_becomes_one_object_for_openai(self) -> None:
        branches = [
            {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
            for name in ("a", "b")
        ]

        body, ignored = sent(
            OPENAI, target("openai"), tools=[function("f", {"anyOf": branches}, strict=True)]
        )

        made = body["tools"][0]["function"]
        assert made["parameters"]["type"] == "object"
        assert made["parameters"]["properties"].keys() == {"a", "b"}
        assert not made["parameters"].keys() & {"anyOf", "required"}
        assert "anyOf" in made["parameters"]["description"]
        assert "strict" not in made
        assert ignored == ("tools.strict",)
