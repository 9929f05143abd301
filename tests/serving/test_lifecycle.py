"""SIGTERM to real server processes: requests under way complete, or are cut and recorded."""

import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from project.processes import free_port
from tests.servers import Gateway, Server, serving
from tests.waiting import until

LIMIT = 60


@contextmanager
def second_server(gateway: Gateway, log: Path, *options: str, **env: str) -> Iterator[Server]:
    """Another server of the same installation, started as an operator does."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "project.asgi:application"]
    command += ["--host", "127.0.0.1", "--port", str(port), *options]
    given = {**gateway.env, **env}
    ready = "/api/llm/health/ready"
    with serving(command, port=port, log=log, env=given, ready_path=ready) as server:
        yield server


def chat(text: str, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": "debugging", "messages": messages, **more}


def received(sandbox: Server) -> int:
    """Returns how many requests the providers have received so far."""
    return int(httpx.get(f"{sandbox.url}/_sandbox/log", trust_env=False).json()["received"])


def queued(server: Server, metrics_key: str) -> int:
    """Returns how many requests of a server wait for their turn."""
    headers = {"Authorization": f"Bearer {metrics_key}"}
    page = httpx.get(f"{server.url}/metrics", headers=headers, trust_env=False, timeout=LIMIT)
    lines = page.raise_for_status().text.splitlines()
    name = "llm_routing_queued_requests{"
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name))


def record_of(gateway: Gateway, request_id: str) -> list[str]:
    """Returns outcome and error code of each attempt of a request in the database."""
    code = (
        "import json; from llm_routing.models import UsageRecord; "
        f"rows = UsageRecord.objects.filter(request_id='{request_id}'); "
        "print(json.dumps(list(rows.values_list('outcome', flat=True))))"
    )
    outcomes: list[str] = json.loads(gateway.manage("shell", "--no-imports", "-c", code))
    return outcomes


def until_draining(url: str) -> None:
    """Returns once the server is not ready, or accepts no new connection."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{url}/api/llm/health/ready", trust_env=False, timeout=10)
        except httpx.TransportError:
            return
        if answer.status_code == 503:
            assert answer.json()["reasons"] == ["draining"]
            return
        time.sleep(0.02)
    pytest.fail("The server went on being ready.")


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "two workers"])
def test_a_stream_under_way_ends_whole_while_the_server_is_no_longer_ready(
    gateway: Gateway, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with (
        second_server(gateway, tmp_path / "log", *options) as server,
        httpx.Client(base_url=server.url, headers=gateway.headers, timeout=LIMIT) as client,
    ):
        body = chat("[[token_delay=0.4]] one two three four five six seven eight", stream=True)
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            server.process.send_signal(signal.SIGTERM)
            until_draining(server.url)
            rest = [line for line in lines if line]
        assert first.startswith("data: {")
        assert len(rest) > 3, "the stream was over before the signal"
        assert rest[-1] == "data: [DONE]"
        assert server.process.wait(LIMIT) == 0, server.output()
        assert "Traceback" not in server.output()
    assert record_of(gateway, answer.headers["x-request-id"]) == ["success"]


def test_an_answer_under_way_is_given_and_new_ones_are_taken_meanwhile(
    gateway: Gateway, tmp_path: Path
) -> None:
    with (
        second_server(gateway, tmp_path / "log", LLM_DRAIN_DELAY="8") as server,
        httpx.Client(base_url=server.url, headers=gateway.headers, timeout=LIMIT) as client,
    ):
        server.process.send_signal(signal.SIGTERM)
        until_draining(server.url)
        answer = client.post("/v1/chat/completions", json=chat("Hi"))
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        assert server.process.wait(LIMIT) == 0, server.output()
    assert record_of(gateway, answer.headers["x-request-id"]) == ["success"]


def test_a_draining_server_finishes_accepted_requests_and_accepts_no_new_ones(
    gateway: Gateway, sandbox: Server, tmp_path: Path
) -> None:
    before = received(sandbox)
    with second_server(gateway, tmp_path / "log") as server:
        address = urlsplit(server.url)
        place = (address.hostname, address.port)
        body = json.dumps(chat("[[delay=8]]")).encode()
        head = "".join(f"{name}: {value}\r\n" for name, value in gateway.headers.items())
        request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{head}"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        page = b"GET /admin/login/ HTTP/1.1\r\nhost: localhost\r\n\r\n"
        with (
            socket.create_connection(place, LIMIT) as busy,
            socket.create_connection(place, LIMIT) as idle,
        ):
            busy.sendall(request)
            until(lambda: received(sandbox) > before)
            server.process.send_signal(signal.SIGTERM)
            refused_by = time.monotonic() + LIMIT
            while time.monotonic() < refused_by:
                try:
                    socket.create_connection(place, LIMIT).close()
                except ConnectionRefusedError:
                    break
                time.sleep(0.02)
            else:
                pytest.fail("The server went on accepting.")
            # Its connection was accepted, so its request is served, by Django too.
            idle.sendall(page)
            answer = idle.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close\r\n" in answer
            assert busy.makefile("rb").read().startswith(b"HTTP/1.1 200")
        assert server.process.wait(LIMIT) == 0, server.output()
        assert "Traceback" not in server.output()


def test_an_idle_connection_does_not_keep_the_server_from_ending(
    gateway: Gateway, tmp_path: Path
) -> None:
    with second_server(gateway, tmp_path / "log", "--timeout-keep-alive", "1") as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), LIMIT) as silent:
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(LIMIT) == 0, server.output()
            assert silent.recv(1) == b""


def test_a_stream_that_takes_too_long_is_cut_at_the_limit_and_accounted(
    gateway: Gateway, tmp_path: Path
) -> None:
    with (
        second_server(gateway, tmp_path / "log", LLM_DRAIN_TIMEOUT="1") as server,
        httpx.Client(base_url=server.url, headers=gateway.headers, timeout=LIMIT) as client,
    ):
        body = chat("[[token_delay=5]] one two three four five six seven eight", stream=True)
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            rest = [json.loads(line.removeprefix("data: ")) for line in lines if line]
        assert rest[-1]["error"]["code"] == "overloaded"
        assert server.process.wait(LIMIT) == 0, server.output()
        assert "Traceback" not in server.output()
    assert record_of(gateway, answer.headers["x-request-id"]) == ["cancelled"]


def test_an_answer_that_takes_too_long_is_refused_at_the_limit_and_accounted(
    gateway: Gateway, sandbox: Server, tmp_path: Path
) -> None:
    before = received(sandbox)
    with (
        second_server(gateway, tmp_path / "log", LLM_DRAIN_TIMEOUT="1") as server,
        httpx.Client(base_url=server.url, headers=gateway.headers, timeout=LIMIT) as client,
    ):

        def end_when_the_provider_has_the_request() -> None:
            until(lambda: received(sandbox) > before)
            server.process.send_signal(signal.SIGTERM)

        ending = threading.Thread(target=end_when_the_provider_has_the_request)
        ending.start()
        answer = client.post("/v1/chat/completions", json=chat("[[delay=600]] slow"))
        ending.join()
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["error"]["code"] == "overloaded"
        assert server.process.wait(LIMIT) == 0, server.output()
    assert record_of(gateway, answer.headers["x-request-id"]) == ["cancelled"]


def test_queued_requests_are_served_while_the_server_drains_or_rejected_at_the_limit(
    gateway: Gateway, sandbox: Server, tmp_path: Path
) -> None:
    before = received(sandbox)
    issued = gateway.manage("create_llm_key", "metrics of queues", "--metrics", "--json")
    metrics_key = json.loads(issued)["key"]
    answers: dict[str, httpx.Response] = {}
    limits = {"LLM_MAX_CONCURRENCY": "1", "LLM_DRAIN_TIMEOUT": "8"}
    with (
        second_server(gateway, tmp_path / "log", **limits) as server,
        httpx.Client(base_url=server.url, headers=gateway.headers, timeout=LIMIT) as client,
    ):

        def ask(name: str, text: str) -> None:
            answers[name] = client.post("/v1/chat/completions", json=chat(text))

        texts = {"first": "[[delay=3]]", "second": "[[delay=600]]", "third": "Hi"}
        asking = []
        for name, text in texts.items():
            asking.append(threading.Thread(target=ask, args=(name, text)))
            asking[-1].start()
            until(
                lambda: (
                    received(sandbox) > before
                    and len(answers) + queued(server, metrics_key) == len(asking) - 1
                )
            )
        server.process.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join(LIMIT)
        assert server.process.wait(LIMIT) == 0, server.output()
        assert "Traceback" not in server.output()
    # The first ends, so the second gets its place; the third never does.
    statuses = {name: answer.status_code for name, answer in answers.items()}
    assert statuses == {"first": 200, "second": 503, "third": 503}
    assert answers["third"].headers["retry-after"]
    assert answers["third"].json()["error"]["code"] == "overloaded"
    outcomes = {
        name: record_of(gateway, answer.headers["x-request-id"]) for name, answer in answers.items()
    }
    assert outcomes == {"first": ["success"], "second": ["cancelled"], "third": []}


def test_a_reader_that_stalls_does_not_keep_the_server_from_ending(
    gateway: Gateway, tmp_path: Path
) -> None:
    with second_server(gateway, tmp_path / "log", LLM_WRITE_TIMEOUT="1") as server:
        body = json.dumps(chat("[[words=90000]]", stream=True)).encode()
        address = urlsplit(server.url)
        head = "".join(f"{name}: {value}\r\n" for name, value in gateway.headers.items())
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect((address.hostname, address.port))
            caller.sendall(
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{head}"
                f"content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            assert caller.recv(4096).startswith(b"HTTP/1.1 200")
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(LIMIT) == 0, server.output()
        assert "Draining took too long" not in server.output()
        assert "ERROR" not in server.output()
