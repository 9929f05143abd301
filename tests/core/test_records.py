"""Records: values that nobody changes, and that do not show what is not to be shown."""

from dataclasses import field, fields, replace
from typing import Any

import pytest

from llm_routing.core.ports import WireRequest
from llm_routing.core.records import record


@record
class Parcel:
    """A value."""

    label: str
    content: str = field(default="", repr=False)
    notes: dict[str, str] = field(default_factory=dict)


def test_nobody_changes_one() -> None:
    parcel: Any = Parcel("a")
    with pytest.raises(AttributeError):
        parcel.label = "b"
    with pytest.raises(AttributeError):
        parcel.more = 1


def test_it_is_what_dataclasses_make_of_one() -> None:
    parcel = Parcel("a", "words")
    assert [one.name for one in fields(parcel)] == ["label", "content", "notes"]
    assert replace(parcel, label="b") == Parcel("b", "words")
    assert Parcel("a").notes is not Parcel("a").notes
    assert hash(WireRequest("/x", headers=())) == hash(WireRequest("/x", headers=()))  # type: ignore[arg-type]  # hashable


def test_what_is_hidden_is_hidden_from_all_who_show_values() -> None:
    parcel = Parcel("a", "words")
    assert repr(parcel) == "Parcel(label='a', notes={})"
    shown: Any = parcel
    # https://rich.readthedocs.io/en/stable/pretty.html#rich-repr-protocol
    assert dict(shown.__rich_repr__()) == {"label": "a", "notes": {}}
