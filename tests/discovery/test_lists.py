"""The list of every vendor, and malformed lists."""

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from llm_routing.core.capabilities import Capability
from llm_routing.core.pricing import Price
from llm_routing.core.quirks import ModelQuirk
from llm_routing.discovery.describe import describe
from llm_routing.discovery.lists import MAX_MODELS, ListedModel, offered_models, parse_page

DAY = date(2026, 11, 23)


def read(value: Any):
    return parse_page(json.dumps(value).encode())


def only(entry: Any) -> ListedModel:
    (model,) = read({"data": [entry]}).models
    return model


def ids(value: Any) -> list[str]:
    return [model.model_id for model in read(value).models]


@pytest.mark.parametrize(
    "value",
    [
        {"object": "list", "data": [{"id": "a"}, {"id": "b"}]},
        [{"id": "a"}, {"id": "b"}],
        ["a", "b"],
        {"models": [{"name": "models/a"}, {"name": "b", "model": "b"}]},
        {"data": [{"id": "models/a"}, {"id": "b"}, {"id": "b"}]},
    ],
    ids=["openai", "together", "names", "google and ollama", "google as openai"],
)
def test_the_shapes_of_a_list(value):
    assert ids(value) == ["a", "b"]


def test_openrouter_lists_prices_and_capabilities():
    model = only(
        {
            "id": "acme/writer-2",
            "name": "Acme: Writer 2",
            "context_length": 200_000,
            "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
            "pricing": {
                "prompt": "0.0000025",
                "completion": "0.00001",
                "input_cache_read": "0.00000025",
                "input_cache_write": "0.000003125",
                "input_cache_write_1h": "0.000005",
                "web_search": "0.004",
            },
            "top_provider": {"max_completion_tokens": 32_000, "is_moderated": False},
            "supported_parameters": ["tools", "structured_outputs", "reasoning", "max_tokens"],
        }
    )
    assert model == ListedModel(
        "acme/writer-2",
        "Acme: Writer 2",
        capabilities=frozenset(Capability) - {Capability.EMBEDDINGS, Capability.PREFILL},
        quirks=frozenset({ModelQuirk.NO_SAMPLING}),
        context_window=200_000,
        max_output_tokens=32_000,
        price=Price(
            Decimal("2.5"),
            Decimal(10),
            Decimal("0.25"),
            Decimal("3.125"),
            Decimal(5),
            web_search=Decimal(4),
        ),
    )


def test_a_price_that_depends_is_no_price_and_a_free_model_is_free():
    assert only({"id": "auto", "pricing": {"prompt": "-1", "completion": "-1"}}).price.input is None
    free = only({"id": "x:free", "pricing": {"prompt": "0", "completion": "0"}})
    assert (free.price.input, free.price.output) == (Decimal(0), Decimal(0))


def test_together_lists_prices_per_million_and_kinds():
    model = only(
        {
            "id": "acme/Chat-70B",
            "type": "chat",
            "display_name": "Chat 70B",
            "context_length": 131_072,
            "pricing": {"hourly": 0, "input": 0.88, "output": 0.88, "base": 0, "finetune": 0},
        }
    )
    assert (model.price.input, model.price.output) == (Decimal("0.88"), Decimal("0.88"))
    assert model.capabilities == frozenset({"chat", "streaming"})
    rented = only({"id": "a", "type": "chat", "pricing": {"hourly": 3, "input": 0, "output": 0}})
    assert rented.price.input is None
    assert only({"id": "a", "type": "rerank"}).capabilities == frozenset()


def test_anthropic_says_limits_and_capabilities():
    model = only(
        {
            "type": "model",
            "id": "claude-acme-5",
            "display_name": "Claude Acme 5",
            "created_at": "2026-02-04T00:00:00Z",
            "max_input_tokens": 1_000_000,
            "max_tokens": 128_000,
            "capabilities": {
                "batch": {"supported": True},
                "image_input": {"supported": True},
                "structured_outputs": {"supported": False},
                "thinking": {"supported": True, "types": {"adaptive": {"supported": True}}},
            },
        }
    )
    assert (model.context_window, model.max_output_tokens) == (1_000_000, 128_000)
    assert sorted(model.capabilities or ()) == [
        "chat", "reasoning", "streaming", "tools", "vision",
    ]  # fmt: skip


def test_mistral_says_capabilities_and_other_names():
    model = only(
        {
            "id": "mistral-acme-2603",
            "aliases": ["mistral-acme-latest"],
            "max_context_length": 262_144,
            "capabilities": {"completion_chat": True, "function_calling": True, "vision": False},
        }
    )
    assert model.capabilities == frozenset({"chat", "streaming", "tools"})
    assert offered_models([model]).has("mistral-acme-latest")


@pytest.mark.parametrize(
    ("entry", "window"),
    [
        ({"context_window": 8192, "max_completion_tokens": 4096}, 8192),
        ({"max_model_len": 40_960}, 40_960),
        ({"context_window": True}, None),
        ({"context_window": -1}, None),
        ({"context_window": 1e300}, None),
        ({"context_window": 10**30}, None),
        ({"context_window": "8192"}, None),
    ],
)
def test_context_windows(entry, window):
    assert only({"id": "a", **entry}).context_window == window


@pytest.mark.parametrize(
    "price", ["NaN", "Infinity", "1e999999999", "1" * 1000, "-0.1", True, [], {}, "1e-9999", "1e9"]
)
def test_an_invalid_price_is_ignored(price):
    model = only({"id": "a", "pricing": {"prompt": price, "completion": "0.000001"}})
    assert model.price.input in (None, 0)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"data": {}}', b"<html>", b'"x"', b"[" * 100_000, b"\xff"]
)
def test_an_invalid_list_is_rejected(body):
    with pytest.raises(ValueError):
        parse_page(body)


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "a b", "a\nb", "a\x00b", "a\x1b[31m", "a\u202eb", "a\u00a0b"),
        *("x" * 201, "x" * 1024, None, 7, ["a"], {}),
    ],
)
def test_a_name_that_no_request_could_carry_is_counted_and_left_out(name):
    page = read({"data": [{"id": name}, {"id": "good"}, 3, None]})
    assert [model.model_id for model in page.models] == ["good"]
    assert page.unreadable == 3


def test_a_display_name_is_cleaned_and_cut():
    assert only({"id": "a", "name": "A\x1b[31m\u202e " + "x" * 5000}).display_name == (
        "A[31m " + "x" * 94
    )


def test_a_list_without_end_is_cut():
    page = read({"data": [{"id": f"m{n}"} for n in range(MAX_MODELS + 1)]})
    assert len(page.models) == MAX_MODELS
    assert page.has_more


@pytest.mark.parametrize(
    "more", [{"has_more": True}, {"nextPageToken": "x"}, {"next_page_token": "x"}, {"total": 9}]
)
def test_an_incomplete_list_is_marked(more):
    assert read({"data": [{"id": "a"}], **more}).has_more


@pytest.mark.parametrize(
    ("offered", "wanted", "is_there"),
    [
        ("gpt-x", "gpt-x", True),
        ("claude-acme-5-20260204", "claude-acme-5", True),
        ("claude-acme-5-20260204", "claude-acme-5-latest", True),
        ("gpt-x-2026-02-04", "gpt-x", True),
        ("llama9:latest", "llama9", True),
        ("llama9:latest", "llama9:8b", False),
        ("acme/writer", "acme/writer:nitro", True),
        ("gpt-x-mini", "gpt-x", False),
        ("gpt-x", "gpt-x-mini", False),
    ],
)
def test_a_model_counts_as_listed_under_accepted_names(offered, wanted, is_there):
    assert offered_models([ListedModel(offered)]).has(wanted) is is_there


class TestDescription:
    def test_price_and_context_come_from_genai_prices_if_known(self):
        row = describe(
            "openai", ListedModel("gpt-6.1-sol", context_window=5, price=Price(Decimal(9))), DAY
        )
        assert (row["input_price"], row["output_price"]) == (Decimal(2), Decimal(10))
        assert row["context_window"] == 1_050_000
        assert row["display_name"] == "GPT-6.1 Sol"

    def test_else_they_are_those_of_the_list(self):
        listed = ListedModel(
            "acme/none-such-9",
            context_window=5,
            max_output_tokens=7,
            price=Price(Decimal(1), Decimal(2)),
        )
        row = describe("openrouter", listed, DAY)
        assert (row["input_price"], row["output_price"], row["context_window"]) == (1, 2, 5)
        assert row["max_output_tokens"] is None

    def test_portkeys_integrations_are_priced_as_their_vendor(self):
        assert describe("portkey", ListedModel("@openai/gpt-6.1-sol"), DAY)["input_price"] == 2
        assert describe("portkey", ListedModel("@openai-prod/gpt-6.1-sol"), DAY)["input_price"] == 2

    def test_the_sandbox_costs_nothing(self):
        assert describe("sandbox", ListedModel("sandbox-new"), DAY)["output_price"] == 0

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("acme-7b", ["chat", "streaming"]),
            ("acme-embed-v2", ["embeddings"]),
            ("whisper-1", []),
            ("gpt-image-1", []),
            ("tts-1-hd", []),
            ("veo-3.1-generate", []),
            ("omni-moderation-latest", []),
            ("devotion-7b", ["chat", "streaming"]),
            ("o4-mini", ["chat", "streaming", "no_sampling"]),
            ("openai/gpt-7", ["chat", "streaming", "no_sampling"]),
            ("claude-opus-6", ["chat", "streaming", "no_sampling"]),
            ("claude-3-haiku-20240307", ["chat", "streaming"]),
            ("gpt-4o", ["chat", "streaming"]),
        ],
    )
    def test_capabilities_are_guessed_from_names(self, name, expected):
        facts = describe("openai", ListedModel(name), DAY)
        assert facts["capabilities"] + facts["quirks"] == expected
