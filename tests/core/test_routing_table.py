"""The routing table: lookups and JSON."""

import json
from dataclasses import FrozenInstanceError, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.quirks import Quirks, ToolIds, words
from llm_routing.core.routing_table import (
    ModelSpec,
    Price,
    ProviderSpec,
    RouteSpec,
    RoutingTable,
    TargetSpec,
    route_key,
    table_from_json,
    table_to_json,
)

QUIRKS = Quirks(stream_usage=False, tool_ids=ToolIds(9, "", is_exact=True), fields=words("a b"))
TABLE = RoutingTable(
    7,
    {"acme": ProviderSpec("acme", "openai", "openai_chat", "https://a.test", quirks=QUIRKS)},
    {
        "acme/gpt:8b": ModelSpec(
            "acme",
            "gpt:8b",
            alias="quick",
            capabilities=frozenset({"chat", "tools"}),
            price=Price(Decimal("0.10"), Decimal("1E-7"), Decimal("0.025")),
        ),
        "acme/org/big": ModelSpec("acme", "org/big"),
    },
    {
        "debugging:premium": RouteSpec("debugging", "premium", (TargetSpec("acme/org/big"),)),
        "chat:standard": RouteSpec("chat", "standard", ()),
        "debugging:economy": RouteSpec("debugging", "economy", (), temperature=0.2, deadline=9.5),
    },
)

DECIMALS = st.decimals(0, 10_000, places=10)
SECONDS = st.none() | st.floats(0.001, 1e6)
PRICES = st.none() | st.builds(Price, DECIMALS, DECIMALS, st.none() | DECIMALS)
PROVIDERS = st.builds(ProviderSpec, connect_timeout=SECONDS, idle_timeout=SECONDS)
MODELS = st.builds(ModelSpec, price=PRICES)
ROUTES = st.builds(RouteSpec, temperature=st.none() | st.floats(0, 2), deadline=SECONDS)
TABLES = st.builds(
    RoutingTable,
    st.integers(),
    st.dictionaries(st.text(), PROVIDERS, max_size=3),
    st.dictionaries(st.text(), MODELS, max_size=3),
    st.dictionaries(st.text(), ROUTES, max_size=3),
)


def test_a_model_is_addressed_by_provider_and_id() -> None:
    assert [model.key for model in TABLE.models.values()] == list(TABLE.models)


def test_aliases_name_models() -> None:
    assert TABLE.aliases == {"quick": "acme/gpt:8b"}


def test_use_cases_list_their_tiers_in_the_order_of_the_routes() -> None:
    assert TABLE.use_cases == {"debugging": ("premium", "economy"), "chat": ("standard",)}


def test_routes_are_keyed_by_use_case_and_tier() -> None:
    assert [route_key(route.use_case, route.tier) for route in TABLE.routes.values()] == list(
        TABLE.routes
    )


@given(TABLES)
def test_a_table_survives_a_json_round_trip(table: RoutingTable) -> None:
    assert table_from_json(table_to_json(table)) == table
    assert table_from_json(table_to_json(table).decode()) == table


def test_lookup_tables_are_not_part_of_the_json() -> None:
    fresh = replace(TABLE)
    before = table_to_json(fresh)
    assert fresh.aliases
    assert fresh.use_cases
    assert table_to_json(fresh) == before


def test_prices_keep_their_digits() -> None:
    price = table_from_json(table_to_json(TABLE)).models["acme/gpt:8b"].price
    assert price is not None
    assert [str(price.input), str(price.output)] == ["0.10", "1E-7"]


def test_a_table_is_immutable() -> None:
    pieces = (TABLE.providers["acme"], "base_url"), (TABLE.models["acme/gpt:8b"], "price")
    for piece, name in ((TABLE, "version"), *pieces):
        with pytest.raises(FrozenInstanceError):
            setattr(piece, name, None)


def changed(path: str, value: Any) -> bytes:
    body = json.loads(table_to_json(TABLE))
    *way, last = path.split(".")
    inner = body
    for step in way:
        inner = inner[step]
    inner[last] = value
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b'{"version": null}',
        table_to_json(TABLE)[:-1],
        changed("version", 1.5),
        changed("providers", []),
        changed("providers.acme", None),
        changed("providers.acme.base_url", 1),
        changed("providers.acme.idle_timeout", "soon"),
        changed("models.acme/org/big", {"provider": "acme"}),
        changed("models.acme/org/big.price", {"input": "NaN", "output": "1"}),
        changed("models.acme/org/big.price", {"input": []}),
        changed("routes.chat:standard.targets", [{"position": 0}]),
    ],
)
def test_malformed_json_is_rejected(garbage: bytes) -> None:
    with pytest.raises(ValueError):
        table_from_json(garbage)


def test_a_field_of_a_later_release_is_ignored() -> None:
    assert table_from_json(changed("providers.acme.region", "eu")) == TABLE


def test_indexing_computes_aliases_and_use_cases_in_advance() -> None:
    model = ModelSpec("p", "m", alias="short")
    route = RouteSpec("debugging", "standard", ())
    table = RoutingTable(1, {}, {model.key: model}, {"debugging:standard": route})
    table.index()
    assert vars(table)["aliases"] == {"short": "p/m"}
    assert vars(table)["use_cases"] == {"debugging": ("standard",)}
