"""Error messages are recorded without quotations of the request."""

import pytest

from llm_routing.core.kept_messages import MAX_CHARACTERS, kept_message


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("The model `gpt-9` does not exist.", "The model `gpt-9` does not exist."),
        ("Invalid 'messages[0].content': too long", "Invalid 'messages[0].content': too long"),
        ("Invalid value: 'my secret plan'.", "Invalid value: '…'."),
        ('You said "Tell me of Ann".', "You said '…'."),
        ("You said “Tell me of Ann”, didn't you?", "You said '…', didn't you?"),
        ("It can't be: 'Hunter2'", "It can't be: '…'"),
        ("flagged: 'a text that was cut", "flagged: '…'"),
        ("x" * 1000, "x" * (MAX_CHARACTERS - 1) + "…"),
        ("'" + "Ann " * 10_000, "'…'"),
        ("", ""),
    ],
)
def test_quotations_are_removed_unless_they_are_names(message: str, kept: str) -> None:
    assert kept_message(message) == kept
