"""What goes to vendors of OpenAI Chat Completions holds only what each of them takes."""

import json
import re
from typing import Any

import pytest

from llm_routing.core.content import Message, Role, TextPart
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.types import LLMRequest, LLMResponse, RoutingFacts
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.formats.operations import ChatOperation
from llm_routing.formats.registry import FORMATS
from llm_routing.formats.tool_ids import split_signature, with_signature

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


class TestToolsOfReasoningModels:
    @pytest.mark.parametrize("stream", [False, True])
    def test_an_anthropic_callers_effort_gives_way_to_its_tools(self, stream: bool) -> None:
        body, ignored = sent(
            ANTHROPIC,
            target("openai", REASONING),
            tools=[tool()],
            thinking={"type": "adaptive"},
            output_config={"effort": "high"},
            stream=stream,
        )

        assert body["reasoning_effort"] == "none"
        assert body["tools"]
        assert ignored == ("reasoning",)

    def test_no_thinking_is_what_was_asked(self) -> None:
        body, ignored = sent(
            ANTHROPIC, target("openai", REASONING), tools=[tool()], thinking={"type": "disabled"}
        )

        assert body["reasoning_effort"] == "none"
        assert ignored == ()

    @pytest.mark.parametrize("vendor", ["openai", "portkey"])
    def test_an_openai_callers_effort_is_named_as_it_wrote_it(self, vendor: str) -> None:
        model = "@openai/gpt-6-luna" if vendor == "portkey" else "gpt-6-luna"
        body, ignored = sent(
            OPENAI,
            target(vendor, REASONING, model=model),
            tools=[function()],
            reasoning_effort="high",
        )

        assert body["reasoning_effort"] == "none"
        assert ignored == ("reasoning_effort",)

    @pytest.mark.parametrize("model", ["o3", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.2"])
    def test_older_models_think_beside_tools(self, model: str) -> None:
        body, ignored = sent(
            OPENAI,
            target("openai", REASONING, model=model),
            tools=[function()],
            reasoning_effort="high",
        )

        assert body["reasoning_effort"] == "high"
        assert ignored == ()

    @pytest.mark.parametrize("model", ["gpt-5.4", "gpt-5.6-terra", "gpt-6-astra", "gpt-10"])
    def test_the_default_effort_of_newer_ones_is_refused_too(self, model: str) -> None:
        body, ignored = sent(OPENAI, target("openai", REASONING, model=model), tools=[function()])

        assert body["reasoning_effort"] == "none"
        assert ignored == ()

    @pytest.mark.parametrize("vendor", ["openai", "mistral", "ollama", "openrouter"])
    def test_without_tools_no_thinking_is_said_where_it_can_be(self, vendor: str) -> None:
        body, ignored = sent(ANTHROPIC, target(vendor, REASONING), thinking={"type": "disabled"})

        assert body["reasoning_effort"] == "none"
        assert ignored == ()


OUR_ANSWER: dict[str, Any] = {
    "role": "assistant",
    "content": "a",
    "reasoning_content": "T",
    "refusal": None,
    "annotations": [],
}


class TestOpenAIsExtras:
    @pytest.mark.parametrize(
        ("vendor", "named"),
        [("mistral", ("store", "reasoning_content")), ("groq", ("metadata", "reasoning_content"))],
    )
    def test_what_the_vendor_refuses_is_left_out(self, vendor: str, named: tuple[str, ...]) -> None:
        body, ignored = sent(
            OPENAI,
            target(vendor),
            messages=[USER, OUR_ANSWER, USER],
            seed=1,
            store=False,
            metadata={"k": "v"},
        )

        assert body["messages"] == [USER, {"role": "assistant", "content": "a"}, USER]
        seed = {"random_seed": 1, "metadata": {"k": "v"}} if vendor == "mistral" else {"seed": 1}
        assert {name: body[name] for name in body if name not in ("model", "messages")} == seed
        assert set(ignored) == set(named) - {"store"}

    def test_openai_itself_is_spared_the_words_of_others_and_given_what_is_unknown(self) -> None:
        body, ignored = sent(
            OPENAI, target("openai"), messages=[USER, OUR_ANSWER, USER], top_k=5, future={"x": 1}
        )

        assert body["future"] == {"x": 1}
        assert body["messages"][1] == {
            "role": "assistant",
            "content": "a",
            "refusal": None,
            "annotations": [],
        }
        assert ignored == ("top_k", "reasoning_content")

    def test_a_caller_in_process_is_believed_about_a_field(self) -> None:
        request = LLMRequest((Message(Role.USER, (TextPart("Hi"),)),), extra={"novel": 1})

        assert json.loads(OpenAIChat().write_request(request, target("mistral")).body)["novel"] == 1

    def test_values_are_fitted(self) -> None:
        assert sent(OPENAI, target("groq"), service_tier="priority")[1] == ("service_tier",)
        assert sent(OPENAI, target("groq"), service_tier="flex")[0]["service_tier"] == "flex"
        body, ignored = sent(OPENAI, target("mistral"), temperature=1.8)
        assert (body["temperature"], ignored) == (1.5, ("temperature",))

    @pytest.mark.parametrize(
        "fields",
        [{"web_search_options": {}}, {"modalities": ["text", "audio"]}],
    )
    def test_what_would_change_the_answer_is_passed_on(self, fields: dict[str, Any]) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target("groq"), **fields)

    @pytest.mark.parametrize("vendor", ["groq", "deepseek", "ollama"])
    def test_several_answers_are_passed_on(self, vendor: str) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target(vendor), n=2)

    def test_what_ollama_pays_no_heed_to_is_named(self) -> None:
        asked = {"tools": [function()], "tool_choice": "required", "user": "u"}

        assert set(sent(OPENAI, target("ollama"), **asked)[1]) == {"tool_choice", "user"}
        assert sent(OPENAI, target("ollama"), tools=[function()], tool_choice="auto")[1] == ()

    def test_no_choice_of_tools_is_no_tools(self) -> None:
        body, ignored = sent(OPENAI, target("ollama"), tools=[function()], tool_choice="none")

        assert body.keys() == {"model", "messages"}
        assert ignored == ()

    @pytest.mark.parametrize("vendor", ["google", "mistral", "deepseek", "vllm"])
    def test_a_tool_of_a_kind_that_the_vendor_lacks_is_passed_on(self, vendor: str) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target(vendor), tools=[{"type": "custom", "custom": {"name": "f"}}])


@pytest.mark.parametrize("vendor", ["vllm", "ollama", "together", "mistral"])
class TestSystemMessages:
    def test_an_anthropic_callers_are_one_and_the_first(self, vendor: str) -> None:
        body, _ = sent(
            ANTHROPIC,
            target(vendor),
            system="top",
            messages=[USER, {"role": "system", "content": "mid"}],
        )

        assert body["messages"] == [{"role": "system", "content": "top\n\nmid"}, USER]

    def test_an_openai_callers_are_one_and_the_first(self, vendor: str) -> None:
        body, _ = sent(
            OPENAI,
            target(vendor),
            messages=[
                {"role": "system", "content": "one"},
                {"role": "developer", "content": [{"type": "text", "text": "two"}]},
                USER,
            ],
        )

        assert body["messages"] == [{"role": "system", "content": "one\n\ntwo"}, USER]

    def test_parts_that_say_more_than_text_stay_parts(self, vendor: str) -> None:
        part = {"type": "text", "text": "two", "x": 1}
        messages = [
            {"role": "system", "content": "one"},
            USER,
            {"role": "system", "content": [part]},
        ]

        body, _ = sent(OPENAI, target(vendor), messages=messages)

        content = [{"type": "text", "text": "one"}, part]
        assert body["messages"] == [{"role": "system", "content": content}, USER]

    def test_a_single_one_in_its_place_is_left_alone(self, vendor: str) -> None:
        messages = [{"role": "system", "content": "one"}, USER]

        assert sent(OPENAI, target(vendor), messages=messages)[0]["messages"] == messages


class TestStopsAndPenalties:
    def test_a_reasoning_model_gets_no_stop_of_an_anthropic_caller(self) -> None:
        body, ignored = sent(ANTHROPIC, target("openai", REASONING), stop_sequences=["</x>"])

        assert "stop" not in body
        assert ignored == ("stop",)

    def test_nor_what_else_it_refuses(self) -> None:
        refused: dict[str, Any] = {
            "stop": "x",
            "presence_penalty": 0.1,
            "frequency_penalty": 0.1,
            "logprobs": True,
            "logit_bias": {"1": 1},
            "temperature": 0.5,
            "top_p": 0.5,
        }
        body, ignored = sent(OPENAI, target("openai", REASONING), **refused)

        assert not body.keys() & refused.keys()
        assert set(ignored) == refused.keys()

    def test_other_vendors_reasoning_models_stop(self) -> None:
        body, ignored = sent(OPENAI, target("openrouter", REASONING), stop="x", temperature=0.5)

        assert body["stop"] == "x"
        assert ignored == ("temperature",)

    @pytest.mark.parametrize(("vendor", "most"), [("openai", 4), ("groq", 4), ("google", 5)])
    def test_there_are_as_many_stops_as_the_vendor_takes(self, vendor: str, most: int) -> None:
        stops = list("abcdef")

        for caller, name in ((ANTHROPIC, "stop_sequences"), (OPENAI, "stop")):
            body, ignored = sent(caller, target(vendor), **{name: stops})
            assert body["stop"] == stops[:most]
            assert ignored == ("stop",)


PIXEL = {"type": "base64", "media_type": "image/png", "data": "QUFB"}


class TestOrder:
    @pytest.mark.parametrize(
        "content",
        [
            [tool_result("toolu_1"), {"type": "text", "text": "next"}],
            [tool_result("toolu_1", [{"type": "image", "source": PIXEL}])],
        ],
    )
    def test_mistral_hears_no_user_straight_after_a_tool(self, content: Any) -> None:
        body, _ = sent(
            ANTHROPIC,
            target("mistral"),
            messages=[
                USER,
                {"role": "assistant", "content": [tool_use("toolu_1")]},
                {"role": "user", "content": content},
            ],
        )

        roles = [message["role"] for message in body["messages"]]
        assert roles == ["user", "assistant", "tool", "assistant", "user"]
        assert body["messages"][3]["content"]

    def test_nor_one_that_an_openai_caller_put_there(self) -> None:
        messages = [USER, {"role": "assistant", "tool_calls": [call("a")]}, result("a"), USER]

        body, _ = sent(OPENAI, target("mistral"), messages=messages)

        assert [message["role"] for message in body["messages"]][-2:] == ["assistant", "user"]

    def test_mistral_hears_of_no_empty_answer(self) -> None:
        nothing: list[Any] = ["", None, []]
        for empty in nothing:
            messages = [USER, {"role": "assistant", "content": empty}, USER]

            assert sent(OPENAI, target("mistral"), messages=messages)[0]["messages"] == [USER, USER]

    def test_an_answer_begun_is_marked_for_mistral(self) -> None:
        begun = {"role": "assistant", "content": "It"}

        body, _ = sent(OPENAI, target("mistral"), messages=[USER, begun])

        assert body["messages"] == [USER, {**begun, "prefix": True}]


class TestForcedTools:
    @pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "f"}])
    def test_deepseek_does_not_think_beside_a_forced_tool(self, choice: Any) -> None:
        body, ignored = sent(ANTHROPIC, target("deepseek"), tools=[tool()], tool_choice=choice)

        assert body["thinking"] == {"type": "disabled"}
        assert body["tool_choice"]
        assert ignored == ()

    def test_thinking_that_was_asked_for_is_named(self) -> None:
        body, ignored = sent(
            OPENAI,
            target("deepseek"),
            tools=[function()],
            tool_choice="required",
            reasoning_effort="high",
        )

        assert body["thinking"] == {"type": "disabled"}
        assert "reasoning_effort" not in body
        assert ignored == ("reasoning_effort",)

    def test_it_thinks_where_the_choice_is_free(self) -> None:
        body, _ = sent(OPENAI, target("deepseek"), tools=[function()], tool_choice="auto")

        assert "thinking" not in body

    @pytest.mark.parametrize(
        ("thinking", "kept", "effort"),
        [
            ({"type": "enabled"}, {"type": "enabled"}, None),
            ({"type": "adaptive"}, None, None),
            ({"type": "enabled", "budget_tokens": 1024}, None, "low"),
        ],
    )
    def test_it_is_switched_in_its_own_words(
        self, thinking: Any, kept: Any, effort: str | None
    ) -> None:
        body, ignored = sent(OPENAI, target("deepseek"), thinking=thinking)

        assert body.get("thinking") == kept
        assert body.get("reasoning_effort") == effort
        assert ignored == ()

    def test_it_has_a_word_of_its_own_for_no_thinking(self) -> None:
        body, ignored = sent(OPENAI, target("deepseek"), reasoning_effort="none")

        assert body["thinking"] == {"type": "disabled"}
        assert "reasoning_effort" not in body
        assert ignored == ()


class TestEffort:
    @pytest.mark.parametrize(
        ("vendor", "asked", "given"),
        [
            ("openai", "max", "xhigh"),
            ("google", "xhigh", "high"),
            ("mistral", "low", "high"),
            ("together", "minimal", "low"),
            ("deepseek", "max", "max"),
            ("groq", "default", "default"),
        ],
    )
    def test_the_nearest_one_is_asked_for_and_a_change_named(
        self, vendor: str, asked: str, given: str
    ) -> None:
        body, ignored = sent(OPENAI, target(vendor), reasoning_effort=asked)

        assert body["reasoning_effort"] == given
        assert ignored == (() if asked == given else ("reasoning_effort",))

    def test_one_that_nobody_knows_is_left_out(self) -> None:
        body, ignored = sent(OPENAI, target("mistral"), reasoning_effort="deep")

        assert "reasoning_effort" not in body
        assert ignored == ("reasoning_effort",)

    @pytest.mark.parametrize(
        ("field", "given"),
        [
            ({"reasoning": {"effort": "low"}}, "low"),
            ({"reasoning": {"max_tokens": 5000}}, "medium"),
            ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
            ({"thinking": {"type": "adaptive"}}, None),
            ({"thinking": {"type": "disabled"}}, "none"),
        ],
    )
    def test_other_dialects_words_are_translated(self, field: Any, given: str | None) -> None:
        body, ignored = sent(OPENAI, target("openai"), **field)

        assert body.get("reasoning_effort") == given
        assert not body.keys() & field.keys()
        assert ignored == ()

    def test_what_cannot_be_said_is_named(self) -> None:
        body, ignored = sent(OPENAI, target("vllm"), thinking={"type": "disabled"})

        assert body.keys() == {"model", "messages"}
        assert ignored == ("thinking",)

    def test_openrouter_takes_its_own_word(self) -> None:
        body, _ = sent(OPENAI, target("openrouter"), reasoning={"effort": "low"})

        assert body["reasoning"] == {"effort": "low"}


MARK = {"type": "ephemeral"}


class TestCacheMarks:
    @pytest.mark.parametrize(
        ("vendor", "model"), [("openrouter", "anthropic/x"), ("portkey", "@anthropic/x")]
    )
    def test_an_anthropic_callers_reach_the_same_parts(self, vendor: str, model: str) -> None:
        body, ignored = sent(
            ANTHROPIC,
            target(vendor, model=model),
            system=[{"type": "text", "text": "s", "cache_control": MARK}],
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "u", "cache_control": MARK},
                        {"type": "image", "source": PIXEL, "cache_control": MARK},
                    ],
                },
                {"role": "assistant", "content": [tool_use("toolu_1")]},
                {"role": "user", "content": [{**tool_result("toolu_1"), "cache_control": MARK}]},
            ],
            tools=[tool(cache_control=MARK)],
        )

        system, user, _, answer = body["messages"]
        assert system["content"] == [{"type": "text", "text": "s", "cache_control": MARK}]
        assert [part["cache_control"] for part in user["content"]] == [MARK, MARK]
        assert answer["content"] == [{"type": "text", "text": "r", "cache_control": MARK}]
        assert body["tools"][0]["cache_control"] == MARK
        assert ignored == ()

    def test_an_openai_callers_whole_message_is_marked_on_its_part(self) -> None:
        body, _ = sent(OPENAI, target("openrouter"), messages=[{**USER, "cache_control": MARK}])

        assert body["messages"] == [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi", "cache_control": MARK}],
            }
        ]

    @pytest.mark.parametrize("vendor", ["openai", "google", "mistral", "groq", "deepseek", "vllm"])
    def test_they_are_named_where_there_is_no_place_for_them(self, vendor: str) -> None:
        part = {"type": "text", "text": "u", "cache_control": MARK}
        message = {"role": "user", "content": [part]}
        questions = (
            (OPENAI, {"messages": [message]}),
            (OPENAI, {"messages": [{**USER, "cache_control": MARK}]}),
            (OPENAI, {"tools": [{**function(), "cache_control": MARK}]}),
            (ANTHROPIC, {"messages": [message]}),
            (ANTHROPIC, {"tools": [tool(cache_control=MARK)]}),
            (ANTHROPIC, {"system": [part]}),
        )

        for caller, fields in questions:
            body, ignored = sent(caller, target(vendor), **fields)
            assert "cache_control" not in json.dumps(body)
            assert ignored == ("cache_control",)

    def test_an_empty_mark_is_left_out_unnamed(self) -> None:
        part = {"type": "text", "text": "u", "cache_control": None}

        body, ignored = sent(
            OPENAI, target("openai"), messages=[{"role": "user", "content": [part]}]
        )

        assert body["messages"][0]["content"] == [{"type": "text", "text": "u"}]
        assert ignored == ()

    def test_a_call_has_no_place_for_one(self) -> None:
        used = {**tool_use("toolu_1"), "cache_control": MARK}
        messages = [
            USER,
            {"role": "assistant", "content": [used]},
            {"role": "user", "content": [tool_result("toolu_1")]},
        ]

        body, ignored = sent(ANTHROPIC, target("openrouter"), messages=messages)

        assert "cache_control" not in json.dumps(body)
        assert ignored == ("cache_control",)


class TestOtherFieldsOfAnthropic:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("container", "c"),
            ("service_tier", "standard_only"),
            ("context_management", {"edits": [{"type": "clear_tool_uses_20250919"}]}),
            ("output_config.task_budget", {"type": "tokens", "total": 9}),
            ("thinking.display", "summarized"),
            ("tools.defer_loading", True),
            ("system.citations", [{"type": "char_location"}]),
        ],
    )
    def test_what_has_no_word_is_named(self, field: str, value: Any) -> None:
        outer, _, inner = field.partition(".")
        fields: dict[str, Any] = {field: value}
        if inner:
            given: dict[str, Any] = {
                "output_config": {"effort": "high"},
                "thinking": {"type": "adaptive"},
                "tools": tool(),
                "system": {"type": "text", "text": "s"},
            }[outer]
            changed = {**given, inner: value}
            fields = {outer: [changed] if outer in ("tools", "system") else changed}

        body, ignored = sent(ANTHROPIC, target("openai"), **fields)

        assert ignored == (field,)
        assert not body.keys() & {"container", "service_tier"}

    @pytest.mark.parametrize(
        "fields",
        [
            {"service_tier": "auto"},
            {"container": None},
            {"context_management": {"edits": []}},
            {"inference_geo": "global"},
        ],
    )
    def test_what_asks_for_nothing_is_not_named(self, fields: Any) -> None:
        assert sent(ANTHROPIC, target("openai"), **fields)[1] == ()

    def test_servers_with_tools_are_passed_on(self) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(ANTHROPIC, target("openai"), mcp_servers=[{"type": "url", "url": "https://x"}])

    def test_a_place_that_the_target_cannot_promise_is_passed_on(self) -> None:
        with pytest.raises(UnsupportedRequest, match="inference_geo"):
            sent(ANTHROPIC, target("openai"), inference_geo="us")

    def test_no_caller_can_fill_the_header(self) -> None:
        fields = {f"field-{number}-{'x' * 500}": 1 for number in range(500)}

        _, ignored = sent(ANTHROPIC, target("openai"), **fields)

        assert len(", ".join(ignored)) < 4096


FILE: dict[str, Any] = {
    "type": "file",
    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUFB"},
}


class TestParts:
    @pytest.mark.parametrize("vendor", ["google", "groq", "deepseek", "together", "ollama", "vllm"])
    def test_one_that_the_vendor_lacks_is_passed_on(self, vendor: str) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target(vendor), messages=[{"role": "user", "content": [FILE]}])

    def test_mistral_has_a_part_of_its_own_for_documents(self) -> None:
        unnamed = {"type": "file", "file": {"file_data": FILE["file"]["file_data"]}}

        body, _ = sent(
            OPENAI, target("mistral"), messages=[{"role": "user", "content": [FILE, unnamed]}]
        )

        document = {"type": "document_url", "document_url": "data:application/pdf;base64,QUFB"}
        assert body["messages"][0]["content"] == [{**document, "document_name": "a.pdf"}, document]

    @pytest.mark.parametrize("file", [{"file_id": "file-1"}, None])
    def test_it_has_no_file_of_openais(self, file: Any) -> None:
        part = {"type": "file", "file": file}

        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target("mistral"), messages=[{"role": "user", "content": [part]}])

    def test_a_refusal_is_said_in_words(self) -> None:
        refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}

        body, _ = sent(OPENAI, target("mistral"), messages=[USER, refused, USER])

        assert body["messages"][1]["content"] == [{"type": "text", "text": "No."}]

    @pytest.mark.parametrize("vendor", ["openai", "openrouter", "sandbox"])
    def test_the_others_are_given_what_the_caller_has(self, vendor: str) -> None:
        messages = [{"role": "user", "content": [FILE]}]

        assert sent(OPENAI, target(vendor), messages=messages)[0]["messages"] == messages


class TestIds:
    @pytest.mark.parametrize(
        ("caller", "ids"),
        [
            (OPENAI, ("call_abcDEF123456", "call_abcDEF123457")),
            (ANTHROPIC, ("toolu_01ABC", "toolu_01ABD")),
        ],
    )
    def test_mistral_gets_nine_letters_and_digits(self, caller: str, ids: tuple[str, str]) -> None:
        if caller == OPENAI:
            calls = [call(one) for one in ids]
            messages = [
                USER,
                {"role": "assistant", "content": None, "tool_calls": calls},
                *map(result, ids),
            ]
        else:
            messages = [
                USER,
                {"role": "assistant", "content": [tool_use(one) for one in ids]},
                {"role": "user", "content": [tool_result(one) for one in ids]},
            ]

        body, _ = sent(caller, target("mistral"), messages=messages)

        called = [one["id"] for one in body["messages"][1]["tool_calls"]]
        assert all(re.fullmatch("[a-zA-Z0-9]{9}", one) for one in called)
        assert len(set(called)) == 2
        assert [message["tool_call_id"] for message in body["messages"][2:]] == called

    def test_one_of_mistrals_own_is_kept(self) -> None:
        messages = [USER, {"role": "assistant", "tool_calls": [call("abcDEF123")]}]

        body, _ = sent(OPENAI, target("mistral"), messages=[*messages, result("abcDEF123")])

        assert body["messages"][1]["tool_calls"][0]["id"] == "abcDEF123"

    def test_one_that_is_too_long_for_openai_is_shortened(self) -> None:
        long = "toolu_" + "x" * 60
        messages = [
            USER,
            {"role": "assistant", "content": [tool_use(long)]},
            {"role": "user", "content": [tool_result(long)]},
        ]

        body, _ = sent(ANTHROPIC, target("openai"), messages=messages)

        (called,) = body["messages"][1]["tool_calls"]
        assert len(called["id"]) <= 40
        assert body["messages"][2]["tool_call_id"] == called["id"]


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
    def test_a_name_is_the_same_in_every_place(self, caller: str, vendor: str) -> None:
        wire = ChatOperation(self.question(caller)).build(target(vendor))

        body = json.loads(wire.body)
        name = body["tools"][0]["function"]["name"]
        assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", name)
        assert body["tool_choice"]["function"]["name"] == name
        assert body["messages"][1]["tool_calls"][0]["function"]["name"] == name
        assert body["messages"][2].get("name", name) == name
        assert body["tools"][1]["function"]["name"] == "plain"

    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    def test_the_caller_is_given_its_own_name_again(self, caller: str) -> None:
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
    def test_in_a_stream_too(self, caller: str) -> None:
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
    def test_no_tools_are_no_field(self, vendor: str) -> None:
        fields = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}

        assert sent(OPENAI, target(vendor), **fields)[0].keys() == {"model", "messages"}

    def test_nor_are_those_of_which_none_is_allowed(self) -> None:
        choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}

        body, _ = sent(OPENAI, target("vllm"), tools=[function()], tool_choice=choice)

        assert body.keys() == {"model", "messages"}

    def test_openai_itself_takes_the_choice(self) -> None:
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


SIGNED = {"google": {"thought_signature": "SIG=="}}


class TestThoughtSignatures:
    def answer(self, *, stream: bool) -> tuple[str, bytes]:
        """What an Anthropic caller reads of Google's call: its id, and all of it."""
        request = FORMATS[ANTHROPIC].read_request(
            {"model": "m", "max_tokens": 9, "messages": [USER], "stream": stream}
        )
        operation, aim = ChatOperation(request), target("google")
        made = call("function-call-1", extra_content=SIGNED)
        if not stream:
            message = {"role": "assistant", "tool_calls": [made]}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            completion = operation.parse(aim, json.dumps({"choices": [choice]}).encode())
            facts = RoutingFacts("req-1", "google", "big-1")
            shown = FORMATS[ANTHROPIC].write_response(LLMResponse(completion, facts))
            (block,) = json.loads(shown)["content"]
            return block["id"], shown
        delta = {"role": "assistant", "tool_calls": [{**made, "index": 0}]}
        choice = {"index": 0, "delta": delta, "finish_reason": "tool_calls"}
        data = f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode()
        parser = operation.stream_parser(aim)
        renderer = FORMATS[ANTHROPIC].stream_renderer(request)
        frames = [*parser.feed(data), *parser.close()]
        shown = b"".join(map(renderer.render, frames)) + renderer.end()
        (found,) = re.findall(rb'"id":"(toolu_[^"]*)"', shown)
        return found.decode(), shown

    @pytest.mark.parametrize("stream", [False, True])
    def test_one_comes_back_through_an_anthropic_caller(self, stream: bool) -> None:
        call_id, _ = self.answer(stream=stream)
        assert re.fullmatch("[a-zA-Z0-9_-]+", call_id)
        messages = [
            USER,
            {"role": "assistant", "content": [tool_use(call_id)]},
            {"role": "user", "content": [tool_result(call_id)]},
        ]

        body, ignored = sent(ANTHROPIC, target("google"), messages=messages, tools=[tool()])

        (made,) = body["messages"][1]["tool_calls"]
        assert made["extra_content"] == SIGNED
        assert made["id"] == body["messages"][2]["tool_call_id"]
        assert ignored == ()

    @pytest.mark.parametrize("vendor", ["openai", "mistral"])
    def test_other_vendors_do_not_see_it(self, vendor: str) -> None:
        call_id, _ = self.answer(stream=False)
        messages = [
            USER,
            {"role": "assistant", "content": [tool_use(call_id)]},
            {"role": "user", "content": [tool_result(call_id)]},
        ]

        body, _ = sent(ANTHROPIC, target(vendor), messages=messages, tools=[tool()])

        assert "_sig_" not in json.dumps(body)

    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    def test_a_foreign_call_has_googles_stand_in(self, caller: str) -> None:
        messages: list[Any]
        if caller == OPENAI:
            messages = [
                USER,
                {"role": "assistant", "tool_calls": [call("call_1"), call("call_2")]},
                result("call_1"),
                result("call_2"),
            ]
        else:
            messages = [
                USER,
                {"role": "assistant", "content": [tool_use("toolu_1"), tool_use("toolu_2")]},
                {"role": "user", "content": [tool_result("toolu_1"), tool_result("toolu_2")]},
            ]

        body, _ = sent(caller, target("google"), messages=messages)

        first, second = body["messages"][1]["tool_calls"]
        stand_in = first["extra_content"]["google"]["thought_signature"]
        assert stand_in == "skip_thought_signature_validator"
        # Of calls made at once, the first one alone has a signature.
        assert "extra_content" not in second

    def test_an_openai_callers_own_stays_where_it_is(self) -> None:
        messages = [
            USER,
            {"role": "assistant", "tool_calls": [call("call_1", extra_content=SIGNED)]},
            result("call_1"),
        ]

        body, _ = sent(OPENAI, target("google"), messages=messages)
        elsewhere, ignored = sent(OPENAI, target("openai"), messages=messages)

        assert body["messages"] == messages
        assert "extra_content" not in json.dumps(elsewhere)
        assert ignored == ("extra_content",)

    @pytest.mark.parametrize("signature", ["SIG==", "?\x7fü", "a" * 5000])
    @pytest.mark.parametrize("call_id", ["call_1", "a_sig_b"])
    def test_an_id_carries_any_signature(self, call_id: str, signature: str) -> None:
        carrying = with_signature(call_id, signature)

        assert re.fullmatch("[a-zA-Z0-9_-]+", carrying)
        assert split_signature(carrying)[1] == signature

    @pytest.mark.parametrize("call_id", ["a_sig_b", "a_sig_", "_sig_12345678ü", "a_sig_12345678QQ"])
    def test_an_id_that_only_looks_so_carries_none(self, call_id: str) -> None:
        assert split_signature(call_id) == (call_id, None)


class TestThinkingThatComesBack:
    def test_deepseek_has_it_back_beside_a_call(self) -> None:
        thinking = {"type": "thinking", "thinking": "T", "signature": ""}
        messages = [
            USER,
            {"role": "assistant", "content": [thinking, tool_use("toolu_1")]},
            {"role": "user", "content": [tool_result("toolu_1")]},
        ]

        body, ignored = sent(ANTHROPIC, target("deepseek"), messages=messages)

        assert body["messages"][1]["reasoning_content"] == "T"
        assert ignored == ()

    @pytest.mark.parametrize(
        ("field", "value"), [("reasoning_content", "T"), ("reasoning", "T"), ("refusal", None)]
    )
    def test_whichever_word_an_openai_caller_has_for_it(self, field: str, value: Any) -> None:
        message = {"role": "assistant", "tool_calls": [call("call_1")], field: value}

        body, _ = sent(OPENAI, target("deepseek"), messages=[USER, message, result("call_1")])

        assert body["messages"][1]["reasoning_content"] == (value or "")

    def test_without_a_call_it_is_named(self) -> None:
        thinking = {"type": "thinking", "thinking": "T", "signature": ""}
        message = {"role": "assistant", "content": [thinking, {"type": "text", "text": "x"}]}

        body, ignored = sent(ANTHROPIC, target("deepseek"), messages=[USER, message, USER])

        assert "reasoning_content" not in body["messages"][1]
        assert ignored == ("thinking",)


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
    def test_a_json_schema_is_passed_on_by_a_model_without_it(self, vendor: str) -> None:
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

    def test_a_choice_at_the_top_is_one_object_for_openai_too(self) -> None:
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
