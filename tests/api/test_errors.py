"""Every error has the envelope that the endpoint's clients read."""

import logging
from typing import Any

import pytest

from llm_routing.conf import get_settings
from llm_routing.models import ApiKey, Provider
from llm_routing.router import base as router_module

from .conftest import Gateway

NATIVE, OPENAI, ANTHROPIC = "/api/llm/complete", "/v1/chat/completions", "/v1/messages"
BODIES: dict[str, dict[str, Any]] = {
    NATIVE: {"messages": "Hi", "use_case": "debugging"},
    OPENAI: {"model": "debugging", "messages": [{"role": "user", "content": "Hi"}]},
    ANTHROPIC: {
        "model": "debugging",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "Hi"}],
    },
}


def code_of(path: str, body: Any) -> str:
    """The code in the envelope of the endpoint at `path`; fails for any other envelope."""
    if path.startswith("/api/llm"):
        assert set(body) == {"error", "request_id"}
        return str(body["error"]["code"])
    if path.startswith("/v1/messages"):
        assert body["type"] == "error"
        return str(body["error"]["details"]["error_code"])
    assert set(body) == {"error"}
    assert {"message", "type", "param", "code"} <= set(body["error"])
    return str(body["error"]["code"])


@pytest.mark.parametrize("path", BODIES)
async def test_a_json_syntax_error_has_its_position(gateway: Gateway, path: str) -> None:
    for body in (
        b"",
        b'{"messages": sk-secret}',
        b'{"model": NaN}',
        b'{"model": "\xff sk-secret"}',
        b'{"model": "\\ud800"}',
        b"[" * 5_000,
        b"\x1f\x8b\x08",
    ):
        response = await gateway.post(path, body)
        assert response.status_code == 400, body[:20]
        code_of(path, response.json())
        assert "line 1" in response.text
        assert "sk-secret" not in response.text
    for value in (b"5", b"[]", b"null", b'"Hi"'):
        response = await gateway.post(path, value)
        assert response.status_code == 400, value
        code_of(path, response.json())
        assert "The body must be an object." in response.text


@pytest.mark.parametrize("path", BODIES)
async def test_without_a_good_key_nothing_is_answered(gateway: Gateway, path: str) -> None:
    good = gateway.key
    for headers in (
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer sk-llm-wrong"},
        {"Authorization": f"Bearer {good}x"},
        {"Authorization": f"Bearer {good[:-1]}"},
        {"Authorization": f"Basic {good}"},
        {"Authorization": good},
        {"Authorization": f"Bearer {good} {good}"},
        {"Authorization": "Bearer sk-llm-" + "x" * 5000},
        {"Authorization": "", "x-api-key": ""},
        {"Authorization": "", "x-api-key": f"Bearer {good}"},
    ):
        response = await gateway.post(path, BODIES[path], headers)
        assert response.status_code == 401, headers
        assert code_of(path, response.json()) in ("unauthenticated", "invalid_api_key")
        assert response.headers["www-authenticate"] == "Bearer"
        assert good not in response.text
    raw = [(b"authorization", b"Bearer sk-llm-\xff\xc3\xa9")]
    response = await gateway.client.post(path, json=BODIES[path], headers=raw)
    assert response.status_code == 401
    assert not gateway.sandbox.journal.entries


@pytest.mark.parametrize("path", BODIES)
async def test_a_key_is_taken_from_either_header(gateway: Gateway, path: str) -> None:
    for headers in (
        {"Authorization": f"bearer  {gateway.key}"},
        {"Authorization": "", "x-api-key": gateway.key},
        {"Authorization": "Basic cHJveHk6cHJveHk=", "x-api-key": gateway.key},
    ):
        response = await gateway.post(path, BODIES[path], headers)
        assert response.status_code == 200, response.text


async def test_a_revoked_key_is_refused_at_once(gateway: Gateway) -> None:
    assert (await gateway.chat()).status_code == 200
    await ApiKey.objects.aupdate(is_active=False)
    assert (await gateway.chat()).status_code == 401


@pytest.mark.parametrize("path", BODIES)
async def test_a_body_over_the_limit_is_refused_and_one_over_django_s_is_not(
    gateway: Gateway, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {**BODIES[path], "metadata": {"padding": "x" * 3_000_000}}
    if path == ANTHROPIC:
        large["metadata"] = {"user_id": "x" * 3_000_000}
    assert (await gateway.post(path, large)).status_code == 200
    limited = get_settings().model_copy(update={"max_body_bytes": 2_000})
    for module in ("llm_routing.api.body", "llm_routing.asgi"):
        monkeypatch.setattr(f"{module}.get_settings", lambda: limited)

    async def unannounced() -> Any:
        for _ in range(30):
            yield b"x" * 100

    for content in (b"x" * 3_000, unannounced()):
        response = await gateway.client.post(path, content=content)
        assert response.status_code == 413
        assert code_of(path, response.json()) == "request_too_large"


@pytest.mark.parametrize("path", BODIES)
async def test_a_body_of_too_many_values_is_refused(gateway: Gateway, path: str) -> None:
    """A small body can cost seconds and gigabytes once it is decoded."""
    too_many: tuple[list[Any], ...] = ([[]] * 30_001, [0] * 1_000_001)
    for value in too_many:
        response = await gateway.post(path, {**BODIES[path], "metadata": {"padding": value}})
        assert response.status_code == 413
        assert code_of(path, response.json()) == "request_too_large"
    key = "user_id" if path == ANTHROPIC else "padding"
    response = await gateway.post(path, {**BODIES[path], "metadata": {key: '[",' * 700_000}})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/api/llm/complete/", "/api/llm/complete"),
        ("/api/llm/v1/messages", "/v1/messages"),
        ("/v1/messages/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/api/llm/chat/completions", "/v1/chat/completions"),
        ("/api/llm/complete//", "/api/llm/complete"),
        ("/v1/embeddings/", "/v1/embeddings"),
    ],
)
async def test_a_path_that_nearly_fits_is_answered_with_the_right_one(
    gateway: Gateway, path: str, right: str
) -> None:
    response = await gateway.post(path, {})
    assert response.status_code == 404
    assert code_of(path, response.json()) == "unknown_endpoint"
    assert f"Use {right} instead." in response.text


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/complete", "/llm/complete/"])
async def test_a_path_without_prefix_is_answered_with_the_right_one(
    gateway: Gateway, path: str
) -> None:
    """On `llm_routing.asgi`, for requests with one of our keys; other paths are the project's."""
    if gateway.application != "lean":
        pytest.skip("Django's own handler serves the project's 404 page.")
    response = await gateway.post(path, {})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "unknown_endpoint"
    assert "instead." in response.json()["error"]["message"]
    without_key = await gateway.client.post(path, headers={"Authorization": "Bearer other"})
    assert without_key.status_code == 404
    assert "instead." not in without_key.text


async def test_a_hint_repeats_nothing_of_the_request(gateway: Gateway) -> None:
    for path in ("/v1/<script>/chat/completions", f"/v1/{'x/' * 200}chat/completions"):
        response = await gateway.post(path, {})
        assert response.status_code == 404
        assert "script" not in response.text
        assert "x/" not in response.text


async def test_every_path_and_method_below_the_prefixes_has_its_envelope(gateway: Gateway) -> None:
    for path in (
        "/api/llm/nothing",
        "/v1/nothing",
        "/v1/messages/nothing",
        "/v1/models/",
        NATIVE + "/",
    ):
        response = await gateway.client.get(path)
        assert response.status_code == 404
        assert code_of(path, response.json()) == "unknown_endpoint", path
        assert response.headers["x-request-id"]
    for path in BODIES:
        for method in ("GET", "DELETE", "PUT", "OPTIONS", "PATCH"):
            response = await gateway.client.request(method, path)
            assert response.status_code == 405
            assert response.headers["allow"] == "POST"
            assert code_of(path, response.json()) == "method_not_allowed"


@pytest.mark.parametrize("path", BODIES)
async def test_an_internal_error_is_a_500_without_details(
    gateway: Gateway,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    settings: Any,
) -> None:
    settings.DEBUG = True
    secret = "sk-" + "secret"

    async def broken(*_: object) -> None:
        raise RuntimeError(secret)

    monkeypatch.setattr(router_module.BaseLLMRouter, "respond", broken)
    with caplog.at_level(logging.ERROR, logger="llm_routing"):
        response = await gateway.post(path, BODIES[path], {"x-request-id": "the-id"})
    assert response.status_code == 500
    assert code_of(path, response.json()) == "internal_error"
    assert "RuntimeError" not in response.text
    assert "the-id failed with RuntimeError" in caplog.text
    assert "sk-secret" not in response.text + caplog.text
    assert gateway.key not in caplog.text


@pytest.mark.parametrize("path", BODIES)
async def test_when_every_target_failed_the_attempts_are_listed(
    gateway: Gateway, path: str
) -> None:
    gateway.sandbox.journal.script(*["status=500 message='https://host/?key=sk-secret'"] * 10)
    response = await gateway.post(path, BODIES[path])
    assert response.status_code == 502
    assert code_of(path, response.json()) == "all_targets_failed"
    assert "first/org/alpha:1" in response.text
    assert "second/beta" in response.text
    assert "server_failed" in response.text
    assert "sk-secret" not in response.text
    assert int(response.headers["x-llm-attempts"]) >= 2


async def test_a_stream_that_cannot_begin_is_a_plain_error(gateway: Gateway) -> None:
    for path, body in BODIES.items():
        gateway.sandbox.journal.reset()
        gateway.sandbox.journal.script(*["status=500"] * 10)
        response = await gateway.post(path, {**body, "stream": True})
        assert response.status_code == 502
        assert code_of(path, response.json()) == "all_targets_failed"


async def test_when_there_is_nothing_to_ask_it_is_a_503(gateway: Gateway) -> None:
    await Provider.objects.aupdate(is_active=False)
    for path, body in BODIES.items():
        response = await gateway.post(path, body)
        assert response.status_code == 503
        assert code_of(path, response.json()) == "no_target_available"
        assert int(response.headers["retry-after"]) >= 1
        if path == NATIVE:
            told = response.json()["error"]["retry_after"]
            assert str(told) == response.headers["retry-after"]


@pytest.mark.parametrize("path", BODIES)
async def test_the_path_decides_the_error_format_and_no_header(gateway: Gateway, path: str) -> None:
    speaking = {"anthropic-version": "2023-06-01"}
    for body in (BODIES[path] | {"temperature": "hot", "input": 5}, b"{", b"[]"):
        response = await gateway.post(path, body, speaking)
        assert 400 <= response.status_code < 500
        code_of(path, response.json())


@pytest.mark.parametrize("path", ["/api/llm/complete", "/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_if_every_target_limits_our_rate_the_response_has_retry_after(
    gateway: Gateway, path: str, stream: bool
) -> None:
    waits = ["status=429 retry_after=50", "status=429 retry_after=30.2"]
    gateway.sandbox.journal.script(*waits * 5)
    body = {**BODIES[path], "stream": stream}
    response = await gateway.post(path, body, {"x-request-timeout": "5"})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "31"
    assert int(response.headers["x-llm-attempts"]) == 2
    error = response.json()["error"]
    if path == "/api/llm/complete":
        assert (error["code"], error["retry_after"]) == ("all_targets_rate_limited", 31)
    else:
        assert error["type"] == "rate_limit_error"


async def test_an_error_names_the_field_in_each_format(gateway: Gateway) -> None:
    openai = await gateway.chat(temperature=5)
    assert openai.status_code == 400
    assert openai.json()["error"]["param"] == "temperature"
    anthropic = await gateway.message(temperature=5)
    assert anthropic.status_code == 400
    assert "temperature" in anthropic.json()["error"]["message"]
    unknown = await gateway.chat(model="gardening")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"
    assert "debugging" in unknown.json()["error"]["message"]


async def test_a_sane_request_id_is_kept_and_another_replaced(gateway: Gateway) -> None:
    kept = await gateway.post(ANTHROPIC, BODIES[ANTHROPIC], {"x-request-id": "trace-1:a/b"})
    assert kept.headers["x-request-id"] == kept.headers["request-id"] == "trace-1:a/b"
    for given in ("", "a b", "x" * 200, "<script>", "ä"):
        raw = [(b"x-request-id", given.encode()), (b"content-type", b"application/json")]
        response = await gateway.client.post(OPENAI, json=BODIES[OPENAI], headers=raw)
        assert len(response.headers["x-request-id"]) == 32
        assert "request-id" not in response.headers
