"""Addresses: routes and models that a caller can name, and the errors for unknown names."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.capabilities import Capability
from llm_routing.core.errors import InvalidRequest, UnknownModel
from llm_routing.core.planner import (
    Address,
    RoutePlan,
    inactive_reason,
    plan,
)
from llm_routing.core.routing_table import (
    Inactive,
    ModelSpec,
    ProviderSpec,
    RouteSpec,
    RoutingTable,
    TargetSpec,
    route_key,
)

CAPABILITIES = frozenset({"chat", "streaming"})
MODELS = [
    ModelSpec("ollama", "llama3:8b", alias="local", capabilities=CAPABILITIES),
    ModelSpec("together", "meta/llama:3/8b:free", capabilities=CAPABILITIES),
    ModelSpec("openai", "embed", capabilities=frozenset({"embeddings"})),
    # An id and an alias that look like a use case.
    ModelSpec("openai", "debugging", alias="debugging-fast", capabilities=CAPABILITIES),
]
ROUTES = [
    RouteSpec(use_case, tier, (TargetSpec("ollama/llama3:8b"),))
    for use_case, tier in (
        ("debugging", "standard"),
        ("debugging", "premium"),
        ("chat", "standard"),
        ("sketching", "economy"),
    )
]
TABLE = RoutingTable(
    1,
    {
        name: ProviderSpec(name, "v", "f", "https://x.test")
        for name in ("ollama", "together", "openai")
    },
    {model.key: model for model in MODELS},
    {route_key(route.use_case, route.tier): route for route in ROUTES},
)
DEFAULT = Address(use_case="chat", tier="premium")


def planned(
    model: str | None = None,
    use_case: str | None = None,
    tier: str | None = None,
    *,
    table: RoutingTable = TABLE,
    default: Address = DEFAULT,
    operation: str = Capability.CHAT,
) -> RoutePlan:
    address = Address(model, use_case, tier)
    return plan(table, address, operation=operation, default=default, rng=Random(0))


def route_of(model: str | None = None, use_case: str | None = None, tier: str | None = None) -> str:
    route = planned(model, use_case, tier).route
    assert route is not None
    return route_key(route.use_case, route.tier)


@pytest.mark.parametrize(
    ("model", "tier", "expected"),
    [
        ("debugging:premium", None, "debugging:premium"),
        ("debugging:standard", None, "debugging:standard"),
        ("debugging", None, "debugging:premium"),
        ("debugging", "standard", "debugging:standard"),
        # The tier in the address takes precedence.
        ("debugging:standard", "premium", "debugging:standard"),
        ("debugging:", None, "debugging:premium"),
        ("debugging:", "standard", "debugging:standard"),
    ],
)
def test_a_use_case_is_an_address_too(model: str, tier: str | None, expected: str) -> None:
    assert route_of(model, tier=tier) == expected


def test_the_model_address_takes_precedence_over_the_use_case() -> None:
    assert route_of("debugging:standard", use_case="chat") == "debugging:standard"


@pytest.mark.parametrize(
    ("use_case", "tier", "expected"),
    [
        ("debugging", "premium", "debugging:premium"),
        ("debugging", None, "debugging:premium"),
        ("debugging", "economy", "debugging:standard"),
        ("chat", "premium", "chat:standard"),
        ("sketching", "economy", "sketching:economy"),
        (None, None, "chat:standard"),
        (None, "standard", "chat:standard"),
    ],
)
def test_a_use_case_without_the_requested_tier_falls_back_to_standard(
    use_case: str | None, tier: str | None, expected: str
) -> None:
    assert route_of(use_case=use_case, tier=tier) == expected


def test_the_default_tier_is_standard() -> None:
    route = planned(use_case="debugging", default=Address()).route
    assert route is not None
    assert route.tier == "standard"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ollama/llama3:8b", "ollama/llama3:8b"),
        ("together/meta/llama:3/8b:free", "together/meta/llama:3/8b:free"),
        ("openai/debugging", "openai/debugging"),
        ("local", "ollama/llama3:8b"),
        ("debugging-fast", "openai/debugging"),
    ],
)
def test_a_model_is_addressed_by_its_key_or_its_alias(address: str, expected: str) -> None:
    found = planned(address, use_case="debugging")
    assert [target.model.key for target in found.targets] == [expected]
    assert found.targets[0].provider.name == expected.partition("/")[0]
    assert found.route is None


def test_a_named_model_must_offer_the_operation() -> None:
    assert planned("openai/embed", operation=Capability.EMBEDDINGS).targets
    with pytest.raises(InvalidRequest, match="openai/embed does not offer chat") as caught:
        planned("openai/embed")
    assert caught.value.field == "model"


USE_CASES = ("debugging", "chat", "sketching")


@pytest.mark.parametrize("name", ["gpt-9", "", "llama3:8b", "ollama/llama3", "nobody:premium"])
def test_the_error_for_an_unknown_model_lists_the_known_names(name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        planned(name)
    assert str(caught.value) == (
        f"There is no model or use case {name!r}. Use cases: chat, debugging, sketching. A model "
        "is addressed as provider/model_id or by its alias."
    )
    assert caught.value.known == USE_CASES


def test_the_error_for_an_unknown_use_case_lists_the_known_ones() -> None:
    with pytest.raises(UnknownModel) as caught:
        planned(use_case="gardening")
    assert str(caught.value) == (
        "There is no use case 'gardening'. Use cases: chat, debugging, sketching."
    )
    assert caught.value.known == USE_CASES


@pytest.mark.parametrize("where", [("debugging:golden", None, None), (None, "chat", "golden")])
def test_the_error_for_an_unknown_tier_lists_the_tiers(where: tuple[str | None, ...]) -> None:
    with pytest.raises(UnknownModel) as caught:
        planned(*where)
    assert str(caught.value) == "There is no tier 'golden'. Tiers: premium, standard, economy."
    assert caught.value.known == ("premium", "standard", "economy")


def test_the_error_for_a_missing_tier_lists_the_tiers_of_the_use_case() -> None:
    with pytest.raises(UnknownModel) as caught:
        planned(use_case="sketching", tier="premium")
    assert str(caught.value) == (
        "The use case sketching has neither the tier premium nor standard. Its tiers: economy."
    )
    assert caught.value.known == ("economy",)


def test_the_error_for_a_missing_standard_tier_names_it_once() -> None:
    with pytest.raises(UnknownModel) as caught:
        planned(use_case="sketching", tier="standard")
    assert str(caught.value) == (
        "The use case sketching lacks the tier standard. Its tiers: economy."
    )


@pytest.mark.parametrize("name", ["team/fast", "Gemini 2.5 Flash", "llama3:8b"])
def test_any_name_addresses_a_use_case_with_and_without_a_tier(name: str) -> None:
    routes = {
        f"{name}:{tier}": RouteSpec(name, tier, (TargetSpec("openai/gpt"),))
        for tier in ("standard", "premium")
    }
    providers = {"openai": ProviderSpec("openai", "openai", "openai_chat", "https://a.example")}
    models = {"openai/gpt": ModelSpec("openai", "gpt")}
    table = RoutingTable(1, providers, models, routes)
    for address, tier in ((name, "standard"), (f"{name}:premium", "premium")):
        standard = Address(use_case=name, tier="standard")
        route = planned(address, table=table, default=standard).route
        assert route is not None
        assert (route.use_case, route.tier) == (name, tier)


def test_the_error_for_an_empty_table_says_that_there_are_no_use_cases() -> None:
    empty = RoutingTable(1)
    with pytest.raises(UnknownModel, match="Use cases: none yet"):
        planned("debugging", table=empty)
    with pytest.raises(UnknownModel, match="There is no use case ''"):
        planned(table=empty, default=Address())


def test_a_long_name_is_shortened_in_the_error() -> None:
    with pytest.raises(UnknownModel) as caught:
        planned("x" * 80)
    assert repr("x" * 80) in str(caught.value)
    with pytest.raises(UnknownModel) as caught:
        planned("x" * 100_000)
    assert repr("x" * 80 + "…") in str(caught.value)


@given(st.text(), st.text(), st.text())
def test_any_name_is_found_or_unknown_and_cannot_break_the_error_line(
    model: str, use_case: str, tier: str
) -> None:
    for name in (Address(model), Address(None, use_case, tier), Address(f"debugging:{tier}")):
        message = ""
        try:
            assert plan(
                TABLE, name, operation=Capability.CHAT, default=DEFAULT, rng=Random(0)
            ).targets
        except UnknownModel as error:
            message = str(error)
        assert message.isprintable()
        assert len(message) < 1200


INACTIVE = RoutingTable(
    1,
    inactive_models={
        "openai/gpt": Inactive.MODEL,
        "mistral/large": Inactive.PROVIDER,
        "old/model": Inactive.VENDOR,
    },
    inactive_aliases={"best": "openai/gpt", "large": "mistral/large"},
    inactive_use_cases=frozenset({"sketching"}),
)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("openai/gpt", "The model openai/gpt is inactive."),
        ("best", "The alias best names the model openai/gpt. It is inactive."),
        (
            "mistral/large",
            "The model mistral/large is not in use, because its provider mistral is inactive.",
        ),
        (
            "large",
            (
                "The alias large names the model mistral/large. It is not in use, because its "
                "provider mistral is inactive."
            ),
        ),
        (
            "old/model",
            "The model old/model is not in use, because its provider old has no known vendor.",
        ),
        ("sketching", "All routes of the use case sketching are inactive."),
        ("sketching:premium", "All routes of the use case sketching are inactive."),
    ],
)
def test_the_error_for_an_inactive_address_says_so(address: str, message: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        planned(address, table=INACTIVE)
    assert caught.value.message == message
    assert inactive_reason(INACTIVE, address) == message


def test_the_error_for_an_inactive_use_case_says_so() -> None:
    with pytest.raises(UnknownModel, match="All routes of the use case sketching are inactive"):
        planned(use_case="sketching", table=INACTIVE)


def test_an_address_that_is_not_configured_has_no_inactive_reason() -> None:
    assert inactive_reason(INACTIVE, "openai/other") == ""
    assert inactive_reason(TABLE, "ollama/llama3:8b") == ""
