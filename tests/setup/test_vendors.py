"""Checks the rows of vendors, whose errors would affect every user."""

import pytest

from llm_routing.core.routing_table import (
    ProviderSpec,
    RoutingTable,
    table_from_json,
    table_to_json,
)
from llm_routing.formats.registry import FORMATS
from llm_routing.vendors import VENDORS, Auth

# Providers in databases name their vendor, so none of these may go.
RELEASED = (
    "portkey openrouter openai anthropic google mistral groq deepseek together ollama vllm sandbox"
)


def test_every_released_vendor_is_still_there_and_each_has_its_own_name():
    assert set(RELEASED.split()) <= set(VENDORS)
    assert all(vendor.name == name for name, vendor in VENDORS.items())


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
def test_a_vendor_has_a_known_format_and_keys_are_sent_over_https_only(vendor):
    assert vendor.format in FORMATS
    assert vendor.base_url.startswith("http://127.0.0.1:" if vendor.is_local else "https://")
    assert not vendor.base_url.endswith("/")
    assert vendor.models_path.startswith("/")
    # A row is part of the table that processes share.
    spec = ProviderSpec(
        vendor.name, vendor.name, vendor.format, vendor.base_url, quirks=vendor.quirks
    )
    table = RoutingTable(1, {vendor.name: spec})
    assert table_from_json(table_to_json(table)) == table


def test_only_servers_of_ones_own_do_without_a_key():
    assert {name for name, vendor in VENDORS.items() if not vendor.needs_key} == {
        "ollama",
        "vllm",
        "sandbox",
    }


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        (Auth.BEARER, {"Authorization": "Bearer k"}),
        (Auth.OPTIONAL_BEARER, {"Authorization": "Bearer k"}),
        (Auth.X_API_KEY, {"x-api-key": "k"}),
        (Auth.PORTKEY, {"x-portkey-api-key": "k"}),
    ],
)
def test_each_way_to_authenticate_has_its_header(auth, headers):
    assert auth.headers("k") == headers
    assert auth.headers("") == {}


@pytest.mark.parametrize(
    ("base_url", "is_own"),
    [
        ("https://api.openai.com/v1", True),
        ("https://API.openai.com:443/v1/", True),
        ("https://eu.api.openai.com/v1", True),
        ("http://127.0.0.1:9000/v1", True),
        ("http://[::1]:9000/v1", True),
        ("http://localhost/v1", True),
        ("http://api.openai.com/v1", False),
        ("http://eu.api.openai.com/v1", False),
        ("https://api.openai.com.evil.example/v1", False),
        ("https://evil-api.openai.com/v1", False),
        ("https://api.openai.com@evil.example/v1", False),
        ("https://evil.example/api.openai.com", False),
        ("http://127.0.0.1.evil.example/v1", False),
        ("not a url", False),
    ],
)
def test_only_its_host_makes_an_address_a_vendors(base_url, is_own):
    assert VENDORS["openai"].is_own_host(base_url) is is_own


@pytest.mark.parametrize(
    ("vendor", "base_url", "hint"),
    [
        ("openai", "https://llm.example.com", "ends with /v1"),
        ("vllm", "http://10.0.0.7:8000/", "ends with /v1"),
        ("openrouter", "https://openrouter.example", "ends with /api/v1"),
        ("anthropic", "https://claude.example/v1", "must not end with"),
        ("openai", "https://llm.example.com/v1", ""),
        ("openai", "https://llm.example.com/openai/deployments", ""),
        ("anthropic", "https://claude.example/proxy", ""),
        ("openai", "", ""),
    ],
)
def test_an_address_that_looks_incomplete_gets_a_hint(vendor, base_url, hint):
    found = VENDORS[vendor].path_hint(base_url)
    assert hint in found
    assert bool(hint) == bool(found)
