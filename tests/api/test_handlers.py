"""Whatever serves Django serves the endpoints: other handlers, servers, methods and settings."""

import asyncio
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import httpx
import pytest
from django.core.wsgi import get_wsgi_application
from django.db import connections

from project.processes import free_port
from tests.servers import Server, environment, manage, serving

from .conftest import Gateway

OPEN = ["/api/llm/health/live", "/api/llm/health/ready", "/api/llm/health", "/api/llm/health/"]
WITH_KEY = ["/v1/models", "/api/llm/models", "/api/llm/routes", "/metrics"]


@pytest.mark.parametrize("path", [*OPEN, *WITH_KEY])
async def test_head_is_supported_wherever_get_is(gateway: Gateway, path: str) -> None:
    got, head = await gateway.client.get(path), await gateway.client.head(path)
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert head.headers["Content-Type"] == got.headers["Content-Type"]


async def test_head_is_no_way_around_a_key_or_a_method(gateway: Gateway) -> None:
    wrong = {"Authorization": "Bearer sk-llm-" + "w" * 43}
    assert (await gateway.client.head("/v1/models", headers=wrong)).status_code == 401
    assert (await gateway.client.head("/v1/chat/completions")).status_code == 405


async def test_every_endpoint_works_in_a_project_with_atomic_requests(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    for path in (*OPEN, *WITH_KEY, "/api/llm/openapi.json", "/api/llm/docs"):
        assert (await gateway.client.get(path)).status_code == 200, path
    assert (await gateway.client.get("/v1/nowhere")).status_code == 404
    for stream in (False, True):
        for answer in (
            await gateway.complete(stream=stream),
            await gateway.chat(stream=stream),
            await gateway.message(stream=stream),
        ):
            assert answer.status_code == 200, answer.text


async def test_a_wsgi_response_conforms_to_pep_3333(gateway: Gateway) -> None:
    application = validator(get_wsgi_application())

    def ask(path: str, body: dict[str, Any]) -> str:
        content = json.dumps(body).encode()
        said: list[str] = []

        def start(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
            assert {type(text) for header in headers for text in header} == {str}
            said.append(status)
            return lambda data: None

        environ = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(content)),
            "HTTP_X_API_KEY": gateway.key,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(content),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        answer = application(environ, start)
        b"".join(answer)
        answer.close()  # type: ignore[attr-defined]  # the validator's iterator has it
        return said[0]

    message = {"model": "debugging", "messages": [{"role": "user", "content": "Hi"}]}
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": message,
        "/v1/messages": message | {"max_tokens": 9},
        "/api/llm/complete": {"messages": "Hi", "use_case": "debugging"},
    }
    for path, body in bodies.items():
        for stream in (False, True):
            status = await asyncio.to_thread(ask, path, body | {"stream": stream})
            assert status == "200 OK", (path, stream)


@pytest.fixture
def runserver(sandbox: Server, tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """Django's development server, which is made of wsgiref, and a key it takes."""
    url = f"sqlite:///{tmp_path / 'db.sqlite3'}"
    env = environment(tmp_path, url, None, LLM_SANDBOX_URL=sandbox.url, DJANGO_DEBUG="1")
    manage(env, "migrate", "--verbosity=0")
    manage(env, "setup_llm_configuration", "--verbosity=0")
    key = json.loads(manage(env, "create_llm_key", "tests", "--json"))["key"]
    port = free_port()
    command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
    log = tmp_path / "runserver.log"
    with serving(command, port=port, log=log, env=env, ready_path="/api/llm/health/live") as server:
        yield server, key


def test_runserver_serves_completions(runserver: tuple[Server, str]) -> None:
    server, key = runserver
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False) as client:
        for stream in (False, True):
            body = {"messages": "Hi", "use_case": "debugging", "stream": stream}
            answer = client.post("/api/llm/complete", json=body)
            assert answer.status_code == 200, server.output()
            assert answer.headers["x-llm-cache"] == "bypass"
        assert client.head("/api/llm/health/live").status_code == 200
