"""HTTPS: keys over plain HTTP are rejected, and responses have security headers."""

import json
from collections.abc import Iterator

import pytest
from django.test import override_settings

from llm_routing.access.refused_keys import refused_keys

from .exchange import ask, chat

SECURE = {"X-Forwarded-Proto": "https"}
PATHS = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/metrics"),
    ("GET", "/api/llm/health"),
]


@pytest.fixture
def https() -> Iterator[None]:
    """Settings as with DJANGO_HTTPS=1."""
    with override_settings(
        SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
        SECURE_SSL_REDIRECT=True,
        SECURE_HSTS_SECONDS=3600,
    ):
        yield


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_key_over_plain_http_is_refused_before_it_is_looked_at(
    method: str, path: str, https: None, key: str
) -> None:
    refused_keys.reset()
    for presented in (key, "sk-llm-" + "w" * 43):
        answer = await ask(method, path, headers={"x-api-key": presented})
        assert answer.status_code == 403
        assert "HTTPS" in json.dumps(answer.json())
    assert sum(refused_keys.counts.values()) == 0


async def test_https_responses_have_the_hsts_header(https: None, key: str) -> None:
    headers = {"x-api-key": key, **SECURE}
    for stream in (False, True):
        content = chat("Hi", stream=stream)
        answer = await ask("POST", "/v1/chat/completions", content=content, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["Strict-Transport-Security"] == "max-age=3600"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    answer = await ask("GET", "/v1/models", headers=headers)
    assert answer.headers["Strict-Transport-Security"] == "max-age=3600"


async def test_probes_without_a_key_work_over_plain_http(https: None, key: str) -> None:
    answer = await ask("GET", "/api/llm/health/ready")
    assert answer.status_code == 200
    assert "Strict-Transport-Security" not in answer.headers


async def test_a_project_may_exempt_a_path(https: None, key: str) -> None:
    with override_settings(SECURE_REDIRECT_EXEMPT=[r"^v1/models$"]):
        assert (await ask("GET", "/v1/models", headers={"x-api-key": key})).status_code == 200


async def test_plain_http_is_accepted_if_the_project_does_not_require_https(key: str) -> None:
    answer = await ask("GET", "/v1/models", headers={"x-api-key": key})
    assert answer.status_code == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
