"""What goes to Anthropic holds only what the vendor and the model take."""

import json
import re
from typing import Any

import pytest
from msgspec.structs import replace

from llm_routing.core.errors import UnsupportedRequest
from llm_routing.formats.registry import FORMATS
from llm_routing.formats.tool_ids import with_signature

from .vendor_fit import (
    ANTHROPIC,
    OPENAI,
    PLAIN,
    REASONING,
    call,
    function,
    result,
    sent,
    target,
    tool,
    tool_result,
    tool_use,
)

USER = {"role": "user", "content": "Hi"}
MARK = {"type": "ephemeral"}


class TestCacheMarks:
    def test_an_openai_callers_reach_the_same_blocks(self) -> None:
        text = {"type": "text", "text": "t", "cache_control": MARK}
        body, ignored = sent(
            OPENAI,
            target("anthropic"),
            messages=[
                {"role": "system", "content": [text]},
                {"role": "user", "content": [text]},
                {"role": "assistant", "content": "a"},
                {"role": "user", "content": "whole", "cache_control": MARK},
            ],
            tools=[{**function(), "cache_control": MARK}],
        )

        assert body["system"] == [text]
        assert body["messages"][0]["content"] == [text]
        assert body["messages"][2]["content"] == [
            {"type": "text", "text": "whole", "cache_control": MARK}
        ]
        assert body["tools"][0]["cache_control"] == MARK
        assert ignored == ()


class TestOtherFieldsOfOpenAI:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("logit_bias", {"1": 1}),
            ("service_tier", "flex"),
            ("verbosity", "low"),
            ("prediction", {"type": "content", "content": "x"}),
            ("store", True),
            ("audio", {"voice": "alloy", "format": "wav"}),
            ("prompt_cache_key", "k"),
            ("min_p", 0.1),
            ("metadata", {"k": "v"}),
        ],
    )
    def test_what_has_no_word_is_named(self, field: str, value: Any) -> None:
        body, ignored = sent(OPENAI, target("anthropic"), **{field: value})

        assert field not in body
        assert ignored == (field,)

    @pytest.mark.parametrize(
        "fields",
        [{"service_tier": "auto"}, {"store": False}, {"logit_bias": {}}, {"modalities": ["text"]}],
    )
    def test_what_asks_for_nothing_is_not_named(self, fields: Any) -> None:
        assert sent(OPENAI, target("anthropic"), **fields)[1] == ()

    @pytest.mark.parametrize(
        "fields", [{"web_search_options": {}}, {"modalities": ["text", "audio"]}]
    )
    def test_what_changes_the_answer_is_passed_on(self, fields: Any) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target("anthropic"), **fields)

    def test_thinking_is_anthropics_own_word(self) -> None:
        thinking = {"type": "enabled", "budget_tokens": 1024}

        body, ignored = sent(OPENAI, target("anthropic"), thinking=thinking, max_tokens=4000)

        assert body["thinking"] == thinking
        assert ignored == ()


class TestAnswersBegun:
    def test_one_does_not_end_with_white_space(self) -> None:
        begun = {"role": "assistant", "content": "It \n"}

        body, _ = sent(OPENAI, target("anthropic"), messages=[USER, begun, USER, begun])

        texts = [turn["content"][0]["text"] for turn in body["messages"][1::2]]
        assert texts == ["It \n", "It"]


class TestSchemasOfTools:
    @pytest.mark.parametrize("word", ["anyOf", "oneOf", "allOf"])
    def test_a_combination_at_the_top_is_one_object(self, word: str) -> None:
        branches = [
            {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
            for name in ("a", "b")
        ]

        body, _ = sent(OPENAI, target("anthropic"), tools=[function("f", {word: branches})])

        schema = body["tools"][0]["input_schema"]
        assert schema["type"] == "object"
        assert schema["properties"].keys() == {"a", "b"}
        assert word not in schema
        assert schema.get("required") == (["a", "b"] if word == "allOf" else None)
        assert (word in schema.get("description", "")) == (word != "allOf")

    def test_an_anthropic_callers_is_too_where_it_would_be_refused(self) -> None:
        branch = {"type": "object", "properties": {"a": {"type": "string"}}}
        bash = {"type": "bash_20250124", "name": "bash"}
        tools = [tool("f", {"oneOf": [branch]}), tool("g", {"type": "object"}), bash]

        body, _ = sent(ANTHROPIC, target("anthropic"), tools=tools)

        first, *others = body["tools"]
        assert first["input_schema"]["properties"] == branch["properties"]
        assert "oneOf" not in first["input_schema"]
        assert others == tools[1:]

    @pytest.mark.parametrize("schema", [{"type": None, "properties": {}}, {"properties": {}}])
    def test_the_type_is_an_object(self, schema: Any) -> None:
        body, _ = sent(OPENAI, target("anthropic"), tools=[function("f", schema)])

        assert body["tools"][0]["input_schema"] == {"type": "object", "properties": {}}


OLD = PLAIN - {"json_schema"}
CHOICE = {"type": "any"}


class TestThinkingOfAnthropicsOwnCallers:
    def test_an_adaptive_model_gets_no_budget(self) -> None:
        thinking = {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}

        body, ignored = sent(ANTHROPIC, target("anthropic", REASONING), thinking=thinking)

        assert body["thinking"] == {"type": "adaptive", "display": "omitted"}
        assert ignored == ("thinking.budget_tokens",)

    def test_an_older_one_gets_what_it_knows_within_its_limit(self) -> None:
        body, ignored = sent(
            ANTHROPIC,
            target("anthropic", OLD, limit=8192),
            thinking={"type": "adaptive"},
            output_config={"effort": "xhigh"},
            max_tokens=32_000,
            top_k=5,
        )

        assert body["max_tokens"] == 8192
        assert body["thinking"]["type"] == "enabled"
        assert 1024 <= body["thinking"]["budget_tokens"] < 8192
        assert not body.keys() & {"output_config", "top_k"}
        assert ignored == ("max_tokens", "output_config.effort", "thinking", "top_k")

    def test_a_budget_stays_below_the_limit(self) -> None:
        thinking = {"type": "enabled", "budget_tokens": 20_000}

        body, ignored = sent(
            ANTHROPIC, target("anthropic", OLD, limit=8192), thinking=thinking, max_tokens=32_000
        )

        assert body["thinking"] == {"type": "enabled", "budget_tokens": 8191}
        assert ignored == ("max_tokens", "thinking.budget_tokens")

    @pytest.mark.parametrize(
        ("capabilities", "more"),
        [
            (OLD, {"max_tokens": 1000}),
            (PLAIN, {"tools": [tool()], "tool_choice": CHOICE}),
            (REASONING, {"tools": [tool()], "tool_choice": CHOICE}),
            (PLAIN - {"reasoning"}, {"output_config": {"effort": "low"}}),
        ],
    )
    def test_it_gives_way_where_the_vendor_would_refuse_it(
        self, capabilities: frozenset[str], more: Any
    ) -> None:
        thinking = {"type": "enabled", "budget_tokens": 1024}

        body, ignored = sent(
            ANTHROPIC, target("anthropic", capabilities), thinking=thinking, **more
        )

        assert not body.keys() & {"thinking", "output_config"}
        assert ignored[-1] == "thinking"

    @pytest.mark.parametrize(
        ("capabilities", "fields"),
        [
            (REASONING, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
            (PLAIN, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
            (PLAIN, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
            (OLD, {"thinking": {"type": "disabled"}}),
            (OLD, {"thinking": None}),
            (OLD, {"output_config": None}),
            (frozenset(), {"thinking": {"type": "adaptive"}}),
        ],
    )
    def test_what_the_model_takes_passes_as_it_is(
        self, capabilities: frozenset[str], fields: Any
    ) -> None:
        body, ignored = sent(ANTHROPIC, target("anthropic", capabilities), **fields)

        assert {name: body[name] for name in fields} == fields
        assert ignored == ()

    def test_a_schema_is_passed_on_by_a_model_without_it(self) -> None:
        wanted = {"type": "json_schema", "schema": {"type": "object", "properties": {}}}

        for fields in ({"output_config": {"format": wanted}}, {"output_format": wanted}):
            with pytest.raises(UnsupportedRequest):
                sent(ANTHROPIC, target("anthropic", OLD), **fields)
            assert sent(ANTHROPIC, target("anthropic"), **fields)[1] == ()

    def test_effort_leaves_the_rest_of_its_object(self) -> None:
        config = {"effort": "low", "task_budget": 1}

        body, ignored = sent(
            ANTHROPIC, target("anthropic", OLD), output_config=config, thinking={"type": "disabled"}
        )

        assert body["output_config"] == {"task_budget": 1}
        assert ignored == ("output_config.effort",)

    def test_the_limit_of_an_openai_callers_answer_is_named_as_it_wrote_it(self) -> None:
        aim = target("anthropic", limit=100)

        assert sent(OPENAI, aim, max_tokens=500)[1] == ("max_tokens",)
        body, ignored = sent(OPENAI, aim, max_completion_tokens=500)
        assert (body["max_tokens"], ignored) == (100, ("max_completion_tokens",))


def parameters(count: int, schema: Any = None, *, required: bool = False) -> dict[str, Any]:
    names = [f"p{number}" for number in range(count)]
    return {
        "type": "object",
        "properties": dict.fromkeys(names, schema or {"type": "string"}),
        "required": names if required else [],
        "additionalProperties": False,
    }


EITHER = {"type": ["string", "null"]}


class TestStrictTools:
    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    @pytest.mark.parametrize(
        ("schemas", "strict"),
        [
            ([parameters(1, required=True)] * 21, 20),
            ([parameters(1, required=True)] * 25, 20),
            ([parameters(10)] * 3, 2),
            ([parameters(9, EITHER, required=True)] * 3, 1),
            ([parameters(20), parameters(9), parameters(4)], 2),
            ([parameters(1, {"type": "array", "items": parameters(13)})] * 2, 1),
            ([parameters(9, {"anyOf": [parameters(2, required=True)]}, required=True)] * 2, 1),
        ],
    )
    def test_as_many_as_the_vendor_takes(self, caller: str, schemas: Any, strict: int) -> None:
        write = function if caller == OPENAI else tool
        tools = [write(f"f{number}", schema, strict=True) for number, schema in enumerate(schemas)]

        body, ignored = sent(caller, target("anthropic"), tools=tools)

        assert [one["input_schema"] for one in body["tools"]] == schemas
        assert sum("strict" in one for one in body["tools"]) == strict
        assert ignored == ("tools.strict",)

    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    def test_none_for_a_model_without_it(self, caller: str) -> None:
        write = function if caller == OPENAI else tool

        body, ignored = sent(
            caller, target("anthropic", OLD), tools=[write(strict=True), write("g")]
        )

        assert [one.get("strict") for one in body["tools"]] == [None, None]
        assert ignored == ("tools.strict",)

    def test_the_answers_schema_counts_too(self) -> None:
        schema = {"name": "a", "schema": parameters(20)}

        body, ignored = sent(
            OPENAI,
            target("anthropic"),
            tools=[function("f", parameters(5), strict=True)],
            response_format={"type": "json_schema", "json_schema": schema},
        )

        assert "strict" not in body["tools"][0]
        assert ignored == ("tools.strict",)

    def test_one_with_an_open_map_is_not_strict_and_keeps_its_schema(self) -> None:
        schema = {"type": "object", "properties": {"labels": {"type": "object"}}}

        body, ignored = sent(
            OPENAI, target("anthropic"), tools=[function("f", schema, strict=True)]
        )

        assert body["tools"] == [{"name": "f", "input_schema": schema}]
        assert ignored == ("tools.strict",)

    def test_what_is_only_told_is_named(self) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}

        body, ignored = sent(
            OPENAI, target("anthropic"), tools=[function("f", schema, strict=True)]
        )

        assert body["tools"][0]["strict"] is True
        assert "minimum" in body["tools"][0]["input_schema"]["properties"]["n"]["description"]
        assert ignored == ("tools.parameters",)


LEAF = {"type": "object", "properties": {"a": {"type": "string"}}}


def answered_with(schema: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    body, ignored = sent(OPENAI, target("anthropic"), response_format=wanted)
    return body["output_config"]["format"]["schema"], ignored


class TestSchemasOfAnswers:
    @pytest.mark.parametrize(
        "value",
        [
            {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
            {"type": "object", "patternProperties": {"^x": {}}},
            {"type": "object"},
            {"type": ["object", "null"]},
            {**LEAF, "additionalProperties": {"type": "string"}},
            {"$ref": "#"},
            {"$ref": "https://x/y"},
            {"$ref": "#/$defs/None"},
            {"$ref": 7},
            {"allOf": [LEAF, {"properties": {"a": {"type": "integer"}}}]},
            {"allOf": [{"type": "string"}, {"type": "integer"}]},
            {"allOf": [LEAF, False]},
            False,
        ],
    )
    def test_what_could_only_be_answered_wrongly_is_passed_on(self, value: Any) -> None:
        with pytest.raises(UnsupportedRequest):
            answered_with({"type": "object", "properties": {"labels": value}})

    @pytest.mark.parametrize(
        "definitions",
        [
            {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}},
            {
                "A": {"anyOf": [{"$ref": "#/$defs/B"}, {"type": "null"}]},
                "B": {"type": "array", "items": {"$ref": "#/$defs/A"}},
            },
        ],
    )
    def test_so_is_recursion(self, definitions: Any) -> None:
        with pytest.raises(UnsupportedRequest):
            answered_with(
                {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": definitions}
            )

    def test_so_are_references_that_multiply(self) -> None:
        definitions: dict[str, Any] = {
            f"D{level}": {"allOf": [{"$ref": f"#/$defs/D{level + 1}"}] * 2} for level in range(40)
        }
        definitions["D40"] = LEAF

        with pytest.raises(UnsupportedRequest):
            answered_with({"allOf": [{"$ref": "#/$defs/D0"}, LEAF], "$defs": definitions})

    def test_a_long_chain_of_references_is_no_recursion(self) -> None:
        definitions: dict[str, Any] = {
            f"D{level}": {"type": "array", "items": {"$ref": f"#/$defs/D{level + 1}"}}
            for level in range(5000)
        }
        definitions["D5000"] = {"type": "string"}

        schema, ignored = answered_with({**LEAF, "$defs": definitions})

        assert len(schema["$defs"]) == 5001
        assert ignored == ()

    def test_all_of_is_merged(self) -> None:
        other = {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}

        schema, ignored = answered_with(
            {
                "description": "Both.",
                "allOf": [
                    {**LEAF, "required": ["a"], "description": "One."},
                    {"$ref": "#/$defs/B"},
                ],
                "$defs": {"B": other},
            }
        )

        assert schema == {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "required": ["a", "b"],
            "description": "One. Both.",
            "additionalProperties": False,
            "$defs": {"B": {**other, "additionalProperties": False}},
        }
        assert ignored == ()

    def test_all_of_one_reference_stays_one(self) -> None:
        schema, _ = answered_with(
            {
                "type": "object",
                "properties": {"a": {"allOf": [{"$ref": "#/$defs/A"}], "title": "T"}},
                "$defs": {"A": LEAF},
            }
        )

        assert schema["properties"]["a"] == {"$ref": "#/$defs/A", "title": "T"}

    @pytest.mark.parametrize(
        ("value", "written", "ignored"),
        [
            ({**LEAF, "additionalProperties": True}, LEAF, ("response_format",)),
            ({"enum": ["a", 1, None, True]}, {"enum": ["a", 1, None, True]}, ()),
            ({"enum": [{}]}, {"description": '{"enum":[{}]}'}, ("response_format",)),
            ({"const": []}, {"description": '{"const":[]}'}, ("response_format",)),
            (
                {"type": "array", "items": [True]},
                {"type": "array", "description": '{"items":[true]}'},
                ("response_format",),
            ),
            (
                {**LEAF, "anyOf": [{"required": ["a"]}]},
                {**LEAF, "description": '{"anyOf":[{"required":["a"]}]}'},
                ("response_format",),
            ),
            (
                {"default": {"$ref": "x"}, "type": "string"},
                {"default": {"$ref": "x"}, "type": "string"},
                (),
            ),
        ],
    )
    def test_the_rest_is_written_or_told_and_named(
        self, value: Any, written: Any, ignored: tuple[str, ...]
    ) -> None:
        schema, named = answered_with({"type": "object", "properties": {"x": value}})

        if "properties" in written:
            written = {**written, "additionalProperties": False}
        assert schema["properties"]["x"] == written
        assert named == ignored

    def test_a_closed_object_without_names_is_what_it_says(self) -> None:
        schema, ignored = answered_with({"type": "object", "additionalProperties": False})

        assert schema == {"type": "object", "additionalProperties": False}
        assert ignored == ()


class TestIdsNamesAndMarks:
    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    def test_a_name_is_one_that_anthropic_takes_in_every_place(self, caller: str) -> None:
        name = "files.read/" + "x" * 150
        if caller == OPENAI:
            fields: dict[str, Any] = {
                "messages": [
                    USER,
                    {"role": "assistant", "tool_calls": [call("call_1", name)]},
                    result("call_1"),
                ],
                "tools": [function(name)],
                "tool_choice": {"type": "function", "function": {"name": name}},
            }
        else:
            fields = {
                "messages": [
                    USER,
                    {"role": "assistant", "content": [tool_use("toolu_1", name)]},
                    {"role": "user", "content": [tool_result("toolu_1")]},
                ],
                "tools": [tool(name)],
                "tool_choice": {"type": "tool", "name": name},
            }

        body, _ = sent(caller, target("anthropic"), **fields)

        fitted = body["tools"][0]["name"]
        assert re.fullmatch("[a-zA-Z0-9_-]{1,128}", fitted)
        assert body["tool_choice"]["name"] == fitted
        assert body["messages"][1]["content"][0]["name"] == fitted

    def test_a_signature_of_another_vendor_is_taken_out_of_ids(self) -> None:
        carrying = with_signature("toolu_1", "SIG==")
        messages = [
            USER,
            {"role": "assistant", "content": [tool_use(carrying)]},
            {"role": "user", "content": [tool_result(carrying)]},
        ]

        body, _ = sent(ANTHROPIC, target("anthropic"), messages=messages)

        assert body["messages"][1]["content"] == [tool_use("toolu_1")]
        assert body["messages"][2]["content"] == [tool_result("toolu_1")]

    def test_the_last_four_marks_are_left(self) -> None:
        text = {"type": "text", "text": "t", "cache_control": MARK}
        answered = {**result("call_1"), "content": [text]}

        body, ignored = sent(
            OPENAI,
            target("anthropic"),
            messages=[
                {"role": "system", "content": [text]},
                {"role": "user", "content": [text, text]},
                {"role": "assistant", "tool_calls": [call("call_1")], "cache_control": MARK},
                answered,
            ],
            tools=[{**function(), "cache_control": MARK}],
        )

        assert json.dumps(body).count("cache_control") == 4
        assert "cache_control" not in json.dumps([body["tools"], body["system"]])
        assert ignored == ("cache_control",)


def test_a_routes_limit_gives_way_unnamed() -> None:
    aim = target("anthropic", limit=100)
    body = {"model": "m", "messages": [USER]}
    request = replace(FORMATS[OPENAI].read_request(body), max_tokens=500)

    wire = FORMATS[ANTHROPIC].write_request(request, aim)

    assert json.loads(wire.body)["max_tokens"] == 100
    assert wire.ignored == ()
