"""What goes to Anthropic holds only what the vendor and the model take."""

from typing import Any

import pytest

from llm_routing.core.errors import UnsupportedRequest

from .vendor_fit import OPENAI, function, sent, target

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

    @pytest.mark.parametrize("schema", [{"type": None, "properties": {}}, {"properties": {}}])
    def test_the_type_is_an_object(self, schema: Any) -> None:
        body, _ = sent(OPENAI, target("anthropic"), tools=[function("f", schema)])

        assert body["tools"][0]["input_schema"] == {"type": "object", "properties": {}}
