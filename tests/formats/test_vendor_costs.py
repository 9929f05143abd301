"""Reads what vendors bill, and keeps the recorded usage and the reported usage the same."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.embeddings import EmbeddingRequest
from llm_routing.core.pricing import Price, cost
from llm_routing.core.types import LLMRequest, Usage
from llm_routing.formats.openai_chat import usage as openai_usage
from llm_routing.formats.operations import ChatOperation, CountTokensOperation, EmbeddingOperation
from llm_routing.formats.registry import EMBEDDING_FORMATS
from llm_routing.formats.usage import repair_usage
from tests.formats.usage_bodies import (
    ANTHROPIC,
    OPENAI,
    anthropic_body,
    openai_body,
    openai_usage_of,
)

EMBEDDINGS = EMBEDDING_FORMATS["openai_chat"]


def embeddings_body(usage: Any) -> bytes:
    vectors = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    return json.dumps({"data": vectors, "model": "m", "usage": usage}).encode()


BEHIND = '"cost_details":{{"upstream_inference_cost":{}}}'


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ('{"prompt_tokens":3,"cost":0.00014175000000000001}', "0.00014175000000000001"),
        ('{"prompt_tokens":3,"cost":"1.5e-05"}', "0.000015"),
        ('{"prompt_tokens":3,"cost":0}', "0"),
        # With the customer's own key, the cost of the provider behind OpenRouter is added.
        (
            f'{{"prompt_tokens":3,"cost":0.95,"is_byok":true,{BEHIND.format(19)}}}',
            "19.95",
        ),
        (
            '{"prompt_tokens":3,"cost":0.95,"cost_details":{"upstream_inference_cost":19}}',
            "19.95",
        ),
        (
            f'{{"prompt_tokens":3,"cost":0.95,"is_byok":false,{BEHIND.format(0.95)}}}',
            "0.95",
        ),
        (
            '{"prompt_tokens":3,"cost":0.95,"cost_details":{"upstream_inference_cost":null}}',
            "0.95",
        ),
        ('{"prompt_tokens":3,"cost":0.95,"cost_details":[1]}', "0.95"),
        ('{"prompt_tokens":3,"cost_in_usd_ticks":37756000}', "0.0037756"),
        ('{"prompt_tokens":3,"cost":null}', None),
        ('{"prompt_tokens":3,"cost":-1}', None),
        ('{"prompt_tokens":3,"cost":"free"}', None),
        ('{"prompt_tokens":3,"cost":{"total":1}}', None),
        ('{"prompt_tokens":3,"cost":true}', None),
        ('{"prompt_tokens":3}', None),
    ],
)
def test_a_vendor_s_bill_is_read_exactly(usage: str, expected: str | None) -> None:
    body = openai_body(None).replace(b"null}", usage.encode() + b"}")
    found = openai_usage_of(body)
    assert found is not None
    assert found.vendor_cost == (None if expected is None else Decimal(expected))


def test_an_unreadable_bill_is_ignored() -> None:
    assert openai_usage.read_vendor_cost({"cost": 1}, b"{") is None


def test_all_tokens_of_an_embedding_are_input() -> None:
    for usage in ({"prompt_tokens": 9, "total_tokens": 9}, {"total_tokens": 9.0}):
        assert EMBEDDINGS.read_embeddings(embeddings_body(usage)).usage == Usage(9)
    assert EMBEDDINGS.read_embeddings(embeddings_body({})).usage is None


def test_callers_see_the_recorded_tokens() -> None:
    usage = Usage(5, 1, estimated=True)
    chat = ChatOperation(LLMRequest(()))
    assert chat.with_usage(OPENAI.read_response(openai_body(None)), usage).usage == usage
    body = b'{"data":[{"index":0,"embedding":[0.5]}]}'
    embedding = EmbeddingOperation(EmbeddingRequest(("a",)))
    assert embedding.with_usage(EMBEDDINGS.read_embeddings(body), usage).usage == usage
    assert CountTokensOperation(LLMRequest(())).with_usage(14, usage) == 14


COUNTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 2**33),
    st.floats(),
    st.floats(0, 1e6),
    st.text(max_size=6),
    st.integers(0, 10**6).map(str),
)


NAMES = st.sampled_from(
    [
        *("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"),
        *("cache_creation_input_tokens", "cache_read_input_tokens", "input_tokens"),
        *("output_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens"),
        *("ephemeral_1h_input_tokens", "thinking_tokens", "web_search_requests"),
    ]
)


PLACES = st.sampled_from(
    [
        *("prompt_tokens_details", "completion_tokens_details", "cache_creation"),
        *("server_tool_use", "output_tokens_details"),
    ]
)


USAGES = st.dictionaries(NAMES, COUNTS, max_size=6).flatmap(
    lambda top: st.dictionaries(
        PLACES, COUNTS | st.dictionaries(NAMES, COUNTS, max_size=4), max_size=3
    ).map(lambda nested: {**top, **nested})
)


PRICE = Price(*[Decimal(3)] * 6)


@given(USAGES)
def test_any_usage_of_a_vendor_is_consistent(usage: dict[str, Any]) -> None:
    owner = {"usage": usage}
    repair_usage(owner)
    mended = owner["usage"]
    assert not repair_usage(owner)
    for found in (
        openai_usage.read_usage(mended),
        EMBEDDINGS.read_embeddings(embeddings_body(mended)).usage,
        ANTHROPIC.read_response(anthropic_body(json.loads(json.dumps(mended)))).usage,
    ):
        if found is None:
            continue
        assert 0 <= found.cache_write_1h_tokens <= found.cache_write_tokens
        assert found.cached_input_tokens + found.cache_write_tokens <= found.input_tokens
        assert 0 <= found.reasoning_tokens <= found.output_tokens
        charged = cost(found, PRICE)
        assert charged is not None
        assert charged >= 0
