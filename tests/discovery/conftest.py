"""A vendor that lists models, over a real socket, and discoveries from it."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from llm_routing.discovery import DiscoveryReport
from llm_routing.factory import discover_models
from llm_routing.models import Provider
from tests.router.conftest import clean_process, connections_given_back

__all__ = ["clean_process", "connections_given_back"]


@dataclass
class Reply:
    """The vendor's response."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    holds: bool = False


class ListingVendor(ThreadingHTTPServer):
    """Answers each path with the response in `says`; `requests` holds the received requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: dict[str, Reply] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def says(self, value: Any, path: str = "/v1/models", **reply: Any) -> None:
        """From now on, `path` is answered with `value` as JSON, or with these bytes."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.replies[path] = Reply(body, **reply)

    def lists(self, *model_ids: str) -> None:
        """From now on, these models are on offer, in OpenAI's shape."""
        self.says(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in model_ids]}
        )


class _Handler(BaseHTTPRequestHandler):
    server: ListingVendor

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers))
        reply = self.server.replies.get(self.path, Reply(b"{}", status=404))
        if reply.holds:
            self.server.released.wait(90)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def vendor() -> Iterator[ListingVendor]:
    with ListingVendor() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def provider(db: None, vendor: ListingVendor) -> Provider:
    """A provider at the listing vendor, with a key of its own."""
    return provider_at(vendor)


def provider_at(server: ListingVendor, name: str = "acme", **values: Any) -> Provider:
    values = {"vendor": "openai", "base_url": f"{server.url}/v1"} | values
    row = Provider(name=name, **values)
    row.set_api_key("key-of-the-tests")
    row.save()
    return row


def run(*providers: str, dry_run: bool = False) -> DiscoveryReport:
    """A discovery, as the command and the admin start it."""
    return async_to_sync(discover_models)(providers, dry_run=dry_run)
