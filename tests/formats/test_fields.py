"""Invalid fields are named by their path, and values are never repeated."""

from typing import Any

import pytest

from llm_routing.core.errors import InvalidRequest
from llm_routing.formats.fields import Fields

BODY = {
    "text": "hi",
    "empty": "",
    "yes": True,
    "no": False,
    "count": 3,
    "zero": 0,
    "ratio": 0.5,
    "huge": 10**400,
    "list": ["a", "b"],
    "mixed": ["a", 1],
    "object": {"inner": {"deep": 1}},
    "objects": [{"a": 1}, {"a": 2}],
    "nothing": None,
    "none_of": [],
}


def refusal(reader: Any, *arguments: Any) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        reader(*arguments)
    return caught.value.field, caught.value.message


def test_values_of_the_right_type_are_returned() -> None:
    fields = Fields(BODY)
    assert fields.string("text") == fields.required_string("text") == "hi"
    assert fields.required_string("empty") == ""
    assert fields.choice("text", ("hi", "ho")) == "hi"
    assert fields.boolean("yes") is True
    assert fields.boolean("no") is False
    assert fields.integer("count") == fields.required_integer("count", 3, 3) == 3
    assert fields.required_integer("zero") == 0
    assert fields.number("ratio", 0.5, 0.5) == 0.5
    assert fields.number("count") == 3.0
    assert fields.array("mixed") == ["a", 1]
    assert fields.strings("list") == ("a", "b")
    inner = fields.object("object")
    assert inner is not None
    assert inner.required_object("inner").path == "object.inner"
    assert [item.path for item in fields.required_objects("objects")] == ["objects.0", "objects.1"]
    assert fields.get("text") == fields.required("text") == "hi"


@pytest.mark.parametrize("name", ["nothing", "absent"])
def test_null_counts_as_missing(name: str) -> None:
    fields = Fields(BODY)
    assert fields.string(name) is None
    assert fields.choice(name, ()) is None
    assert fields.boolean(name) is None
    assert fields.integer(name) is None
    assert fields.number(name) is None
    assert fields.object(name) is None
    assert fields.array(name) is None
    assert fields.strings(name) == ()
    assert fields.objects(name) == ()
    for reader in (
        fields.required,
        fields.required_string,
        fields.required_integer,
        fields.required_object,
        fields.required_objects,
    ):
        assert refusal(reader, name) == (name, f"{name} is required.")


@pytest.mark.parametrize(
    ("reader", "name", "said"),
    [
        ("string", "count", "must be a string"),
        ("required_string", "list", "must be a string"),
        ("boolean", "count", "must be true or false"),
        ("integer", "yes", "must be a whole number"),
        ("integer", "ratio", "must be a whole number"),
        ("required_integer", "text", "must be a whole number"),
        ("number", "yes", "must be a number"),
        ("number", "text", "must be a number"),
        ("number", "huge", "is too large"),
        ("array", "text", "must be an array"),
        ("object", "list", "must be an object"),
        ("required_object", "text", "must be an object"),
        ("required_objects", "none_of", "must not be empty"),
    ],
)
def test_a_value_of_the_wrong_type_is_rejected(reader: str, name: str, said: str) -> None:
    fields = Fields({"outer": BODY}).required_object("outer")
    path = f"outer.{name}"
    assert refusal(getattr(fields, reader), name) == (path, f"{path} {said}.")


def test_an_infinite_number_is_refused() -> None:
    assert refusal(Fields({"x": float("-inf")}).number, "x") == ("x", "x is too large.")


@pytest.mark.parametrize("reader", ["integer", "required_integer", "number"])
def test_bounds_are_inclusive(reader: str) -> None:
    read = getattr(Fields(BODY), reader)
    assert read("count", 3, 3) == 3
    assert refusal(read, "count", 4) == ("count", "count must be 4 or more.")
    assert refusal(read, "count", 0, 2) == ("count", "count must be 2 or less.")


def test_the_error_of_a_choice_lists_the_allowed_values_and_not_the_given_one() -> None:
    field, message = refusal(Fields(BODY).choice, "text", ("a", "b"))
    assert (field, message) == ("text", "text must be one of a, b.")
    assert refusal(Fields(BODY).choice, "list", ("a", "b"))[0] == "list"


def test_the_item_of_an_array_is_named() -> None:
    assert refusal(Fields(BODY).strings, "mixed") == ("mixed.1", "mixed.1 must be a string.")
    assert refusal(Fields(BODY).objects, "mixed") == ("mixed.0", "mixed.0 must be an object.")


@pytest.mark.parametrize("body", [None, [], "text", 3])
def test_a_body_that_is_not_an_object_is_rejected(body: Any) -> None:
    with pytest.raises(InvalidRequest, match="The body must be an object") as caught:
        Fields(body)
    assert caught.value.field is None
