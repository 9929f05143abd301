"""Pages of other origins: preflight requests, answers, streams and errors, and nothing when off."""

import httpx
import pytest
from django.apps import apps
from django.test import override_settings

from llm_routing.conf import get_settings

from .exchange import ask, chat

ORIGIN = "https://app.example.com"
PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/models", "/api/llm/complete", "/metrics"]


async def preflight(path: str, origin: str = ORIGIN) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
    }
    return await ask("OPTIONS", path, headers=headers)


@pytest.fixture
def allowed(router: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_CORS_ALLOWED_ORIGINS", f"{ORIGIN}, http://localhost:3000")
    get_settings.cache_clear()


@pytest.mark.parametrize("path", PATHS)
async def test_a_preflight_needs_no_key(path: str, allowed: None) -> None:
    answer = await preflight(path)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "x-stainless-os" in answer.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_has_the_cors_headers(allowed: None, key: str, stream: bool) -> None:
    headers = {"Origin": ORIGIN, "x-api-key": key}
    path = "/v1/chat/completions"
    answer = await ask("POST", path, content=chat("Hi", stream=stream), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "x-llm-model" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("path", PATHS)
async def test_an_error_has_the_cors_headers(path: str, allowed: None) -> None:
    answer = await ask("GET", path, headers={"Origin": ORIGIN})
    assert answer.status_code in (401, 405)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "", ORIGIN + ".evil.com"])
async def test_another_origin_may_nothing(origin: str, allowed: None) -> None:
    answer = await preflight("/v1/models", origin)
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Vary"] == "Origin"
    answer = await ask("GET", "/v1/models", headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_nothing_is_said_when_it_is_off(router: object) -> None:
    assert (await preflight("/v1/models")).status_code == 405
    answer = await ask("GET", "/v1/models", headers={"Origin": ORIGIN})
    assert {"vary", "access-control-allow-origin"}.isdisjoint(answer.headers)


async def test_the_settings_of_django_cors_headers_apply_if_it_is_installed(
    allowed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_installed = apps.is_installed
    monkeypatch.setattr(
        apps, "is_installed", lambda name: name == "corsheaders" or is_installed(name)
    )
    with override_settings(
        CORS_ALLOWED_ORIGIN_REGEXES=[r"^https://\w+\.example\.org$"],
        CORS_ALLOW_CREDENTIALS=True,
        CORS_EXPOSE_HEADERS=["x-own"],
        CORS_URLS_REGEX=r"^/v1/.*$",
    ):
        assert "Access-Control-Allow-Origin" not in (await preflight("/v1/models")).headers
        answer = await preflight("/v1/models", "https://a.example.org")
        assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example.org"
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "x-stainless-os" not in answer.headers["Access-Control-Allow-Headers"]
        other = await preflight("/metrics", "https://a.example.org")
        assert "Access-Control-Allow-Origin" not in other.headers
        headers = {"Origin": "https://a.example.org"}
        answer = await ask("GET", "/v1/models", headers=headers)
        assert "x-own" in answer.headers["Access-Control-Expose-Headers"]
    with override_settings(CORS_ALLOW_ALL_ORIGINS=True):
        answer = await ask("GET", "/v1/models", headers={"Origin": "https://any.test"})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
