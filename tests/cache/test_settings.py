"""Settings of the cache: what is refused at the start rather than met by a request."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from llm_routing.conf import load


@pytest.mark.parametrize(
    "url", ["redis://cache:6379/1", "rediss://:hunter2@cache/0", "unix:///run/redis.sock?db=2"]
)
def test_a_redis_url_is_taken_from_the_environment_and_not_shown(url: str) -> None:
    settings = load({}, {"REDIS_URL": url})
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == url
    assert url not in repr(settings)


def test_no_redis_url_is_none() -> None:
    assert load({}, {}).redis_url is None
    assert load({"REDIS_URL": ""}, {"REDIS_URL": "redis://cache"}).redis_url is None
    assert load({"REDIS_URL": None}, {"REDIS_URL": "redis://cache"}).redis_url is None


@pytest.mark.parametrize(
    "url", ["cache:6379", "http://hunter2", "redis://cache:hunter2/0", "redis://cache?db=hunter2"]
)
def test_what_is_no_redis_url_stops_the_start_without_being_quoted(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL") as caught:
        load({}, {"REDIS_URL": url})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["CACHE_TTL", "CACHE_MAX_SIZE", "CACHE_MEMORY_LIMIT_MB"])
def test_bounds_are_not_negative(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        load({}, {name: "-1"})
