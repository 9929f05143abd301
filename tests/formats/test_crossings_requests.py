"""Requests of callers of one format, written for vendors of another."""

import pytest

from llm_routing.core.errors import UnsupportedRequest
from llm_routing.formats.registry import FORMATS
from tests.formats.conversation import ANTHROPIC, BOTH, OPENAI, QUESTIONS, asked


def test_the_question_is_written_in_every_format() -> None:
    assert set(QUESTIONS) == set(FORMATS), "rows are missing in tests/formats/conversation.py"


class TestTheQuestion:
    def test_a_request_of_an_openai_caller_is_written_for_anthropic(self) -> None:
        body, ignored = asked(OPENAI, ANTHROPIC)

        assert body == {**QUESTIONS[ANTHROPIC], "model": "served"}
        assert ignored == ()

    def test_a_request_of_an_anthropic_caller_is_written_for_openai(self) -> None:
        body, ignored = asked(ANTHROPIC, OPENAI)

        assert body == {**QUESTIONS[OPENAI], "model": "served"}
        assert ignored == ()

    @pytest.mark.parametrize("both", BOTH)
    def test_between_the_same_formats_only_the_model_changes(self, both: str) -> None:
        body, ignored = asked(both, both, future={"x": 1})

        assert body == {**QUESTIONS[both], "model": "served", "future": {"x": 1}}
        assert ignored == ()

    @pytest.mark.parametrize("caller", BOTH)
    @pytest.mark.parametrize("vendor", BOTH)
    def test_a_streamed_request_asks_for_usage(self, caller: str, vendor: str) -> None:
        body, _ = asked(caller, vendor, stream=True)

        assert body["stream"] is True
        assert body.get("stream_options") == ({"include_usage": True} if vendor == OPENAI else None)

    def test_thinking_is_requested_in_the_vendors_form(self) -> None:
        no_tools = {"tools": None, "tool_choice": None, "temperature": None}
        messages = {
            OPENAI: [{"role": "user", "content": "Hi"}],
            ANTHROPIC: [{"role": "user", "content": "Hi"}],
        }

        to_anthropic, _ = asked(
            OPENAI, ANTHROPIC, reasoning_effort="medium", messages=messages[OPENAI], **no_tools
        )
        to_openai, _ = asked(
            ANTHROPIC,
            OPENAI,
            thinking={"type": "enabled", "budget_tokens": 2000},
            messages=messages[ANTHROPIC],
            **no_tools,
        )

        assert to_anthropic["thinking"] == {"type": "enabled", "budget_tokens": 1500}
        assert to_openai["reasoning_effort"] == "low"

    @pytest.mark.parametrize("caller", BOTH)
    def test_parts_that_only_their_own_vendor_understands_are_refused(self, caller: str) -> None:
        other = ANTHROPIC if caller == OPENAI else OPENAI
        foreign_part = {
            OPENAI: {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
            ANTHROPIC: {"type": "container_upload", "file_id": "f"},
        }
        foreign_tool = {
            OPENAI: {"type": "custom", "custom": {"name": "f"}},
            ANTHROPIC: {"type": "web_search_20250305", "name": "web_search"},
        }

        with pytest.raises(UnsupportedRequest):
            asked(caller, other, messages=[{"role": "user", "content": [foreign_part[caller]]}])
        with pytest.raises(UnsupportedRequest):
            asked(caller, other, tools=[foreign_tool[caller]])

    def test_several_answers_are_refused_for_anthropic(self) -> None:
        with pytest.raises(UnsupportedRequest):
            asked(OPENAI, ANTHROPIC, n=2)

    def test_fields_that_anthropic_lacks_are_named(self) -> None:
        _, ignored = asked(OPENAI, ANTHROPIC, seed=1, presence_penalty=0.5, temperature=1.5)

        assert ignored == ("seed", "presence_penalty", "temperature")

    def test_fields_that_openai_lacks_are_named(self) -> None:
        _, ignored = asked(ANTHROPIC, OPENAI, top_k=5)

        assert ignored == ("top_k",)
