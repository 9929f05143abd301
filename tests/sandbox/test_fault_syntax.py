"""The syntax of fault directives."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.sandbox.faults import Faults, FaultSyntaxError, check, extract, merge, parse


def test_names_and_values_are_read():
    text = 'status=503 retry_after=-1 delay=1.5 cut_after=3 html message="come back" crlf=0'
    faults = merge(parse(text, "m"))
    assert faults == Faults(
        status=503,
        retry_after="-1",
        delay=1.5,
        cut_after=3,
        html=True,
        message="come back",
        crlf=False,
    )


def test_brackets_are_optional_and_groups_add_up():
    assert parse("[[delay=1]] [[delay=2 html]]", "m") == {"delay": 2.0, "html": True}
    assert parse("", "m") == {}


def test_a_group_can_apply_to_one_model():
    text = "[[status=503 model=a]] [[delay=1]]"
    assert parse(text, "a") == {"status": 503, "delay": 1.0}
    assert parse(text, "b") == {"delay": 1.0}


@pytest.mark.parametrize(
    "wrong",
    [
        "teapot",
        "status",
        "status=99",
        "status=600",
        "status=4e2",
        "status=٤٠٤",
        "delay",
        "delay=-1",
        "delay=nan",
        "delay=inf",
        "delay=3601",
        "cut_after=-1",
        "cut_after=99999999999",
        "html=maybe",
        "retry_after=",
        'message="ü"',
        "words=0",
        "split=0",
        "status=503 ;",
        "STATUS=503",
        "redirect=example.com",
        "model=a teapot",
    ],
)
def test_invalid_directives_are_rejected(wrong: str):
    with pytest.raises(FaultSyntaxError):
        check(wrong)


def test_extract_removes_directives_and_keeps_other_text():
    text = "See [[Home page]] [[delay=1]] and if [[ -f x ]][[html]]"
    assert extract(text) == ("See [[Home page]]  and if [[ -f x ]]", ["delay=1", "html"])
    assert extract("  plain  ") == ("  plain  ", [])
    assert extract("Hi [[model=m html]] [[model]]") == ("Hi  [[model]]", ["model=m html"])


@given(st.text(alphabet='[]= "\nstau503delyx', max_size=60))
def test_any_text_is_parsed_or_rejected(text: str):
    rest, found = extract(text)
    assert len(rest) <= len(text)
    for directive in [text, *found]:
        # Any other exception fails the test.
        with contextlib.suppress(FaultSyntaxError):
            assert isinstance(merge(parse(directive, "m")), Faults)
