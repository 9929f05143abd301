"""Settings: the dictionary wins over the environment, nonsense is refused, secrets stay unsaid."""

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection

from llm_routing.checks import check_deployment, check_settings
from llm_routing.conf import Settings, get_settings, load
from llm_routing.core.config import RouterConfig


@pytest.fixture(autouse=True)
def fresh():
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_a_key_of_the_dictionary_wins_over_its_variable_and_that_over_the_default() -> None:
    environ = {"CONNECTION_POOL_SIZE": "7", "LLM_IDLE_TIMEOUT": "3.5", "OR_SITE_URL": ""}
    settings = load({"CONNECTION_POOL_SIZE": 9}, environ)
    assert settings.connection_pool_size == 9
    assert settings.idle_timeout == 3.5
    assert settings.connect_timeout == Settings().connect_timeout


def test_unknown_keys_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"CACHE_TLL.*CACHE_TTL"):
        load({"CACHE_TLL": 5}, {})


@pytest.mark.parametrize(
    ("given", "environ", "named"),
    [
        ({"CONNECTION_POOL_SIZE": 0}, {}, "LLM_ROUTING['CONNECTION_POOL_SIZE']"),
        ({}, {"CONNECTION_POOL_SIZE": "many"}, "variable CONNECTION_POOL_SIZE"),
        ({}, {"LLM_ALLOWED_UPSTREAM_NETWORKS": "10.0.0.0/33"}, "LLM_ALLOWED_UPSTREAM_NETWORKS"),
        ({}, {"LLM_TOTAL_TIMEOUT": "nan"}, "LLM_TOTAL_TIMEOUT"),
    ],
)
def test_nonsense_is_refused_by_name(given, environ, named) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        load(given, environ)
    assert named in str(caught.value)


def test_no_value_of_a_secret_is_in_a_message_or_a_repr() -> None:
    secret = {"KEY_PEPPER": ["hunter2"]}
    with pytest.raises(ImproperlyConfigured) as caught:
        load(secret, {})
    assert "hunter2" not in str(caught.value)
    given = {"KEY_PEPPER": "hunter2", "ENCRYPTION_KEYS": "hunter2", "PORTKEY_CONFIG": "hunter2"}
    assert "hunter2" not in repr(load(given, {}))
    assert "hunter2" not in repr(RouterConfig(portkey_config="hunter2"))


def test_networks_are_a_list_or_separated_by_commas() -> None:
    by_words = load({}, {"LLM_ALLOWED_UPSTREAM_NETWORKS": "10.0.0.0/8, fd00::/8"})
    by_list = load({"ALLOWED_UPSTREAM_NETWORKS": ["10.0.0.0/8", "fd00::/8"]}, {})
    assert by_words.allowed_upstream_networks == by_list.allowed_upstream_networks


def test_loopback_is_allowed_only_in_development(settings, monkeypatch) -> None:
    monkeypatch.delenv("LLM_ALLOWED_UPSTREAM_NETWORKS", raising=False)
    settings.DEBUG = True
    get_settings.cache_clear()
    assert [str(network) for network in get_settings().allowed_upstream_networks] == [
        "127.0.0.0/8",
        "::1/128",
    ]
    settings.DEBUG = False
    get_settings.cache_clear()
    assert get_settings().allowed_upstream_networks == ()


@pytest.mark.django_db  # since Django 6.1 the checks of models query SQLite
@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"NO_SUCH_KEY": 1}, "E001"),
        ({"TOTAL_TIMEOUT": 5}, "E002"),
        ({"SNAPSHOT_CACHE_ALIAS": "nowhere"}, "E003"),
        ({"ENCRYPTION_KEYS": "not-a-fernet-key"}, "E005"),
        ({"OR_APP_NAME": "two\nlines"}, "E006"),
        ({"OR_SITE_URL": "nonsense"}, "E007"),
        ({"OR_SITE_URL": "http://[::1"}, "E007"),
        ({"PORTKEY_CONFIG": '{"retry": '}, "E008"),
    ],
)
def test_check_rejects_nonsense(settings, given, code) -> None:
    settings.LLM_ROUTING = given
    with pytest.raises(SystemCheckError, match=f"llm_routing.{code}"):
        call_command("check")


@pytest.mark.django_db  # since Django 6.1 the checks of models query SQLite
@pytest.mark.parametrize("variable", ["PORTKEY_API_KEY", "OPENROUTER_API_KEY", "GOOGLE_API_KEY"])
def test_check_rejects_a_key_with_blanks_and_does_not_show_it(variable, monkeypatch) -> None:
    monkeypatch.setenv(variable, "sk-one sk-two")
    with pytest.raises(SystemCheckError, match=f"{variable} has characters") as caught:
        call_command("check")
    assert "sk-" not in str(caught.value)
    monkeypatch.setenv(variable, " sk-one\n")
    call_command("check")


@pytest.mark.django_db  # since Django 6.1 the checks of models query SQLite
def test_check_accepts_values_that_vendors_accept(settings) -> None:
    settings.LLM_ROUTING = {
        "PORTKEY_CONFIG": '{"retry": {"attempts": 3}}',
        "OR_SITE_URL": "https://example.org",
        "OR_APP_NAME": "An example",
    }
    call_command("check")
    settings.LLM_ROUTING = {"PORTKEY_CONFIG": "pc-failover-1"}
    call_command("check")


def test_a_cache_that_pickles_into_redis_is_refused(settings) -> None:
    backend = "django.core.cache.backends.redis.RedisCache"
    settings.CACHES = {**settings.CACHES, "pickled": {"BACKEND": backend, "LOCATION": "redis://x"}}
    settings.LLM_ROUTING = {"SNAPSHOT_CACHE_ALIAS": "pickled"}
    assert [message.id for message in check_settings()] == ["llm_routing.E004"]


def test_deployment_warns_only_of_unsafe_settings(settings) -> None:
    settings.LLM_ROUTING = {"ALLOWED_UPSTREAM_NETWORKS": "10.0.0.0/8"}
    assert [message.id for message in check_deployment()] == [
        "llm_routing.W001",
        "llm_routing.W002",
        "llm_routing.W003",
    ]
    settings.LLM_ROUTING = {
        "KEY_PEPPER": "a pepper",
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "ALLOWED_UPSTREAM_NETWORKS": [],
    }
    assert list(check_deployment()) == []
    assert list(check_settings()) == []


@pytest.mark.servers
@pytest.mark.parametrize(
    "limit",
    [
        {"connect_timeout": 3},
        {"tcp_user_timeout": 3000},
        {"options": "-c statement_timeout=3s"},
    ],
)
def test_deployment_warns_of_a_database_that_is_waited_for_without_any_limit(
    limit: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, object] = {"pool": {"max_size": 2}}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    assert "llm_routing.W005" in {message.id for message in check_deployment()}
    options |= limit
    assert "llm_routing.W005" not in {message.id for message in check_deployment()}
