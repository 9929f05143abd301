"""The data of set-up holds together."""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal

import pytest

from llm_routing.configuration.catalogue import MODELS, ROUTES
from llm_routing.configuration.prices import ModelFacts, model_facts
from llm_routing.core.capabilities import Capability
from llm_routing.core.quirks import ModelQuirk
from llm_routing.core.types import ModelTier, UseCase
from llm_routing.models import CAPABILITY_LABELS, QUIRK_LABELS, UseCaseRoute
from llm_routing.vendors import VENDORS

BY_KEY = {model.key: model for model in MODELS}
DAY = date(2026, 11, 23)


def vendors_of(keys: Iterable[str]) -> list[str]:
    return [BY_KEY[key].provider for key in keys]


def test_every_model_is_there_once_and_belongs_to_a_vendor():
    assert len(BY_KEY) == len(MODELS)
    assert {model.provider for model in MODELS} <= set(VENDORS)


def test_one_key_whichever_it_is_serves_every_route():
    for name, vendor in VENDORS.items():
        lacking = [r for r in ROUTES if vendor.needs_key and name not in vendors_of(r.targets)]
        assert not lacking, f"{name} needs models in MODELS and a row in _CHAT_MODELS (catalogue)"


def test_every_capability_and_quirk_has_a_label_for_operators():
    assert set(CAPABILITY_LABELS) == set(Capability)
    assert set(QUIRK_LABELS) == set(ModelQuirk)


@pytest.mark.parametrize("model", [m for m in MODELS if m.priced_as], ids=lambda model: model.key)
def test_every_real_model_has_a_price_and_its_window_without_a_network(model, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("went to the network"))
    provider, model_id = model.priced_as
    facts = model_facts(provider, model_id, DAY)
    assert facts.price.input is not None
    assert facts.price.input > 0
    assert facts.price.output is not None
    assert facts.context_window or "embeddings" in model.capabilities
    if "chat" in model.capabilities:
        assert facts.price.output >= facts.price.input
    if model.max_output_tokens and facts.context_window:
        assert model.max_output_tokens <= facts.context_window


def test_a_price_by_length_is_that_of_short_prompts_and_one_by_hour_that_of_noon():
    assert model_facts("anthropic", "claude-haiku-5-5", DAY).price.input == Decimal("0.1")
    assert model_facts("deepseek", "deepseek-flash", DAY).price.input == Decimal("0.15")


def test_a_price_follows_the_day():
    """Introductory rates of Gemini 4 Argon end with November 2026."""
    november, december = date(2026, 11, 30), date(2026, 12, 1)
    assert model_facts("google", "gemini-4-argon", november).price.input == 2
    assert model_facts("google", "gemini-4-argon", december).price.input == 4


def test_cache_writes_have_the_prices_that_their_vendor_asks():
    price = model_facts("anthropic", "claude-opus-5-5", DAY).price
    assert price.input == 4
    assert price.cache_write == 5
    assert price.cache_write_1h == 8
    assert price.web_search == 10


def test_embeddings_cost_nothing_for_output():
    assert model_facts("openai", "text-embedding-3-small", DAY).price.output == 0


def test_nothing_is_known_of_a_model_that_the_data_lacks():
    assert model_facts("openai", "no-such-model", DAY) == ModelFacts()
    assert model_facts("no-such-provider", "gpt-6-luna", DAY) == ModelFacts()


def test_every_use_case_has_every_tier():
    assert [(route.use_case, route.tier) for route in ROUTES] == [
        (use_case.value, tier.value) for use_case in UseCase for tier in ModelTier
    ]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.use_case}:{route.tier}")
def test_a_route_names_each_vendor_once_and_ends_on_the_sandbox(route):
    assert set(route.targets) <= set(BY_KEY), "a row of _CHAT_MODELS names a model not in MODELS"
    vendors = vendors_of(route.targets)
    assert len(set(vendors)) == len(vendors)
    assert vendors[-1] == "sandbox"
    assert route.targets[-1] == f"sandbox/sandbox-{route.tier}"
    assert all("chat" in BY_KEY[key].capabilities for key in route.targets)
    assert all("embeddings" in BY_KEY[key].capabilities for key in route.embeddings)
    UseCaseRoute(
        use_case=route.use_case, tier=route.tier, system_prompt=route.system_prompt
    ).clean_fields()


@pytest.mark.parametrize("vendor", ["openai", "anthropic", "google"])
def test_unchanged_clients_of_the_big_vendors_find_their_models(vendor):
    models = [model for model in MODELS if model.provider == vendor]
    assert models
    assert all(model.has_alias for model in models)
