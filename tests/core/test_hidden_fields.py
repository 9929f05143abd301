"""The core's values are immutable, and bodies and keys do not appear in their representations."""

from typing import Any

import pytest
from msgspec.structs import replace

from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.caching.idempotency import IdempotencyRule
from llm_routing.core.embeddings import EmbeddingRequest, Embeddings
from llm_routing.core.events import Frame
from llm_routing.core.hidden_fields import HidesFields
from llm_routing.core.ports import WireRequest
from llm_routing.core.types import Completion, Idempotency, LLMRequest, Source, Usage

SECRET = "hush-hush"
BODY = SECRET.encode()
SOURCE = Source("openai_chat", {"prompt": SECRET})

VALUES = [
    WireRequest("/path", BODY),
    Idempotency(SECRET, "POST /path", SECRET),
    IdempotencyRule(60.0, SECRET, SECRET),
    LLMRequest((), source=SOURCE),
    EmbeddingRequest((), source=SOURCE),
    Completion("1", "m", (), None, "openai_chat", BODY),
    Embeddings("m", (), None, "openai_chat", BODY),
    Frame("openai_chat", BODY),
    CachedAnswer("p", "m", BODY),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_bodies_and_keys_are_left_out_of_representations(value: HidesFields) -> None:
    """`repr` and `rich` show the other fields only, also inside of a container."""
    name = type(value).__name__
    assert repr([value]).startswith(f"[{name}(")
    for shown in (repr([value]), str(value), f"{value}", repr(value.__rich_repr__())):
        assert SECRET not in shown
    assert value.hidden_fields <= set(value.__struct_fields__)
    shown_names = [name for name, _ in value.__rich_repr__()]
    assert {*shown_names, *value.hidden_fields} == set(value.__struct_fields__)


def test_every_value_with_hidden_fields_is_tested() -> None:
    assert {type(value) for value in VALUES} == set(HidesFields.__subclasses__())


def test_a_representation_is_the_call_that_makes_the_value() -> None:
    shown = repr(WireRequest("/path", BODY, ignored=("seed",)))
    assert shown == "WireRequest(path='/path', headers={}, method='POST', ignored=('seed',))"


def test_values_are_immutable() -> None:
    usage: Any = Usage(1)
    with pytest.raises(AttributeError):
        usage.input_tokens = 2
    with pytest.raises(AttributeError):
        usage.more = 1


def test_a_changed_copy_leaves_the_value_as_it_was() -> None:
    usage = Usage(1, 2)
    assert replace(usage, input_tokens=3) == Usage(3, 2)
    assert usage == Usage(1, 2)


def test_mutable_defaults_are_not_shared() -> None:
    assert WireRequest("/path").headers is not WireRequest("/path").headers


def test_equal_values_have_equal_hashes() -> None:
    assert hash(Usage(1)) == hash(Usage(1))
