"""The key of a provider: its source, its allowed addresses, and its secrecy."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from llm_routing.conf import get_settings, load
from llm_routing.configuration.credentials import (
    STORED,
    HeaderCredential,
    ProviderCredentials,
    build_credential,
    find_key,
    load_credentials,
    vendor_key,
)
from llm_routing.models import Provider
from llm_routing.vendors import VENDORS

SECRET = "sk-very-secret-0123456789"


def provider(vendor: str = "openai", stored: str = "", **fields: Any) -> Provider:
    row = Provider(name=fields.pop("name", vendor), vendor=vendor, **fields)
    if stored:
        row.set_api_key(stored)
    return row


def headers_of(row: Provider, environ: Mapping[str, str], **settings: str) -> dict[str, str] | None:
    credential = load_credentials(
        [row], environ=environ, settings=load(settings, {}) if settings else get_settings()
    ).get(row.name)
    return None if credential is None else dict(credential.headers)


@pytest.mark.parametrize(
    ("vendor", "variable", "expected"),
    [
        ("openai", "OPENAI_API_KEY", {"Authorization": f"Bearer {SECRET}"}),
        ("google", "GEMINI_API_KEY", {"Authorization": f"Bearer {SECRET}"}),
        ("google", "GOOGLE_API_KEY", {"Authorization": f"Bearer {SECRET}"}),
        ("portkey", "PORTKEY_API_KEY", {"x-portkey-api-key": SECRET}),
        (
            "anthropic",
            "ANTHROPIC_API_KEY",
            {"x-api-key": SECRET, "anthropic-version": "2023-06-01"},
        ),
    ],
)
def test_the_vendors_own_variable_becomes_the_headers_it_wants(vendor, variable, expected):
    assert headers_of(provider(vendor), {variable: f" {SECRET}\n"}) == expected


def test_settings_that_are_set_become_headers():
    portkey = headers_of(
        provider("portkey"), {"PORTKEY_API_KEY": SECRET}, PORTKEY_CONFIG="pc-failover"
    )
    assert portkey == {"x-portkey-api-key": SECRET, "x-portkey-config": "pc-failover"}
    openrouter = headers_of(
        provider("openrouter"),
        {"OPENROUTER_API_KEY": SECRET},
        OR_SITE_URL="https://example.org",
        OR_APP_NAME="Example",
    )
    assert openrouter == {
        "Authorization": f"Bearer {SECRET}",
        "HTTP-Referer": "https://example.org",
        "X-Title": "Example",
    }


def test_a_vendors_setting_headers_are_not_sent_to_another_address():
    elsewhere = provider("portkey", base_url="https://collector.example/v1", stored=SECRET)
    assert headers_of(elsewhere, {}, PORTKEY_CONFIG="pc-secret") == {"x-portkey-api-key": SECRET}


def test_the_vendors_key_is_not_sent_unencrypted():
    environ = {"OPENAI_API_KEY": SECRET}
    assert headers_of(provider(base_url="http://api.openai.com/v1"), environ) is None


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.needs_key])
def test_a_vendor_that_needs_a_key_has_no_credential_without_one(name):
    assert headers_of(provider(name), {}) is None
    assert headers_of(provider(name), {VENDORS[name].api_key_env: "  "}) is None


@pytest.mark.parametrize("name", ["ollama", "vllm", "sandbox"])
def test_a_self_hosted_server_is_called_with_or_without_a_key(name):
    assert headers_of(provider(name), {}) == {}
    assert headers_of(provider(name), {VENDORS[name].api_key_env: "k"}) == {
        "Authorization": "Bearer k"
    }


def test_the_variable_a_row_names_comes_before_its_stored_key_and_that_before_the_vendors():
    environ = {"MY_KEY": "named", "OPENAI_API_KEY": "vendors"}
    row = provider(api_key_env="MY_KEY", stored="stored-key")
    assert (find_key(row, environ).value, find_key(row, environ).origin) == ("named", "MY_KEY")
    del environ["MY_KEY"]
    assert (find_key(row, environ).value, find_key(row, environ).origin) == ("stored-key", STORED)
    assert find_key(provider(stored="stored-key"), environ).value == "stored-key"
    assert find_key(provider(), environ).origin == "OPENAI_API_KEY"


def test_a_row_that_names_a_variable_never_gets_another_ones_key():
    row = provider(api_key_env="TEAM_B_KEY")
    assert headers_of(row, {"OPENAI_API_KEY": SECRET}) is None


def test_the_vendors_key_is_not_sent_to_another_address():
    environ = {"OPENAI_API_KEY": SECRET}
    elsewhere = provider(base_url="https://collector.example/v1")
    assert headers_of(elsewhere, environ) is None
    elsewhere.api_key_env = "OPENAI_API_KEY"
    assert headers_of(elsewhere, environ) == {"Authorization": f"Bearer {SECRET}"}
    assert headers_of(provider(base_url="https://eu.api.openai.com/v1"), environ) is not None


def test_a_key_that_cannot_be_decrypted_stops_no_other_provider_and_is_not_logged(caplog):
    broken = provider(name="broken")
    broken.encrypted_key = "gAAAAA-not-a-token"
    with caplog.at_level(logging.DEBUG):
        found = load_credentials([broken, provider("groq")], environ={"GROQ_API_KEY": SECRET})
    assert found.get("broken") is None
    assert found.get("groq") is not None
    assert "broken" in caplog.text
    assert "gAAAAA" not in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("added", ["\nx-evil: 1", "”", "\0", " x"])
def test_a_key_that_no_header_can_carry_counts_as_missing(added, caplog):
    assert headers_of(provider(), {"OPENAI_API_KEY": SECRET + added}) is None
    assert "OpenAI" in caplog.text
    assert SECRET not in caplog.text


def test_a_setting_that_no_header_can_carry_is_left_out_and_named(caplog):
    headers = headers_of(
        provider("openrouter"), {"OPENROUTER_API_KEY": SECRET}, OR_APP_NAME="a\r\nx-evil: 1"
    )
    assert headers == {"Authorization": f"Bearer {SECRET}"}
    assert "OR_APP_NAME" in caplog.text


def test_an_unknown_vendor_is_logged_and_has_no_credential(caplog):
    found = load_credentials([provider("acme", name="odd")], environ={})
    assert found.get("odd") is None
    assert "odd" in caplog.text


def test_a_vendors_key_is_found_without_a_row():
    assert vendor_key(VENDORS["google"], {"GOOGLE_API_KEY": "k"}).value == "k"
    assert vendor_key(VENDORS["google"], {}).value == ""


def test_an_unknown_provider_has_no_credential():
    assert ProviderCredentials({}).get("nobody") is None


def test_no_representation_shows_a_key():
    row = provider(stored=SECRET)
    store = load_credentials([row], environ={})
    credential = store.get("openai")
    key = find_key(row, {})
    assert isinstance(credential, HeaderCredential)
    for text in (repr(store), repr(credential), str(credential), repr(key), f"{[credential]}"):
        assert SECRET not in text


def test_returned_headers_cannot_be_changed():
    credential = build_credential(VENDORS["openai"], SECRET, {})
    assert credential is not None
    with pytest.raises(TypeError):
        credential.headers["Authorization"] = "Bearer other"  # type: ignore[index]  # the point
