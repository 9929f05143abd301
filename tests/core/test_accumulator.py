"""Stream events add up to the completion of a non-streamed answer."""

from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.accumulator import Accumulator
from llm_routing.core.content import RefusalPart, TextPart, ThinkingPart, ToolCallPart
from llm_routing.core.events import (
    AnswerEnded,
    AnswerStarted,
    ChoiceFinished,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from llm_routing.core.types import Choice, Completion, FinishReason, Usage


def added(*events: StreamEvent) -> Completion:
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.completion()


def test_no_events_give_an_empty_completion() -> None:
    assert added() == Completion("", "", (), None)


def test_all_kinds_of_events_are_added_up() -> None:
    completion = added(
        AnswerStarted("a1", "m-2026", Usage(9, 1)),
        ThinkingDelta("Let me "),
        ThinkingDelta("see."),
        ThinkingEnded("sig"),
        ThinkingEnded(redacted="sealed"),
        TextDelta("Hel"),
        TextDelta("lo"),
        ToolCallStarted(1, "c2", "listen"),
        ToolCallStarted(0, "c1", "look"),
        ToolCallDelta(0, '{"a":'),
        ToolCallDelta(1, "{}"),
        ToolCallDelta(0, "1}"),
        ChoiceFinished(FinishReason.TOOL_CALLS),
        UsageReported(Usage(9, 5)),
        AnswerEnded(),
    )
    assert completion == Completion(
        "a1",
        "m-2026",
        (
            Choice(
                (
                    ThinkingPart("Let me see.", "sig"),
                    ThinkingPart("", None, "sealed"),
                    TextPart("Hello"),
                    ToolCallPart("c1", "look", '{"a":1}'),
                    ToolCallPart("c2", "listen", "{}"),
                ),
                FinishReason.TOOL_CALLS,
            ),
        ),
        Usage(9, 5),
    )


def test_a_cut_answer_keeps_the_received_part() -> None:
    completion = added(ThinkingDelta("Hm"), TextDelta("Hel"))
    assert completion.choices == (Choice((ThinkingPart("Hm"), TextPart("Hel")), None),)


def test_a_refusal_is_not_text() -> None:
    completion = added(RefusalDelta("I will "), RefusalDelta("not."))
    assert completion.choices[0].content == (RefusalPart("I will not."),)
    assert completion.choices[0].text == ""


def test_a_stop_sequence_is_kept() -> None:
    completion = added(ChoiceFinished(FinishReason.STOP_SEQUENCE, stop_sequence="END"))
    assert completion.choices == (Choice((), FinishReason.STOP_SEQUENCE, 0, "END"),)


def test_arguments_of_a_call_that_never_started_are_dropped() -> None:
    assert added(ToolCallDelta(3, "{}")).choices == (Choice((), None),)


def test_usage_at_the_start_counts_until_a_later_report() -> None:
    assert added(AnswerStarted("a", "m", Usage(3))).usage == Usage(3)
    assert added(UsageReported(Usage(3)), AnswerStarted("a", "m")).usage == Usage(3)
    assert added(AnswerStarted("a", "m", Usage(3)), UsageReported(Usage(4))).usage == Usage(4)


@given(st.lists(st.tuples(st.integers(0, 3), st.text(min_size=1))))
def test_interleaved_choices_are_separated(pieces: list[tuple[int, str]]) -> None:
    completion = added(*(TextDelta(text, choice) for choice, text in pieces))
    assert [choice.index for choice in completion.choices] == sorted({at for at, _ in pieces})
    for choice in completion.choices:
        assert choice.text == "".join(text for at, text in pieces if at == choice.index)
