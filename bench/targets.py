"""The target of the load: one address, its headers, its models, the request body."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

# Nine digits of a counter and a nonce per run: no two prompts of a run are equal, so caches always
# miss. The width is fixed, so all bodies have the same length.
ID = "@ID@"
MODEL = "@MODEL@"
# Each paced frame contains this marker once, however a gateway writes the JSON around it.
WORD = "zqz"


@dataclass(frozen=True, slots=True)
class Target:
    """One way to ask a system for a chat completion. Load goes round all `models` and `keys`."""

    url: str
    models: Sequence[str]
    keys: Sequence[str] = ("sk-bench",)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def request_headers(self, index: int = 0) -> dict[str, str]:
        """The headers of the request of this number."""
        return {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self.keys[index % len(self.keys)]}",
            **self.headers,
        }

    def request(self, template: str, unique: str) -> httpx.Request:
        """One request, for a client that is not under time."""
        body = fill(template, unique, self.models[0])
        return httpx.Request("POST", self.url, headers=self.request_headers(), content=body)

    def raw_request(self, template: str, unique: str, index: int = 0) -> bytes:
        """The same as bytes of HTTP/1.1."""
        body = fill(template, unique, self.models[index % len(self.models)]).encode()
        parts = urlsplit(self.url)
        lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in self.request_headers(index).items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body


def fill(template: str, unique: str, model: str) -> str:
    """The body of one request."""
    return template.replace(MODEL, model, 1).replace(ID, unique, 1)


def plain_body(size: int = 0, *, is_same: bool = False) -> str:
    """The template of a plain request of about `size` bytes, deterministic, so that a cache looks
    it up. `is_same` makes all requests equal."""
    prompt = f"Say hello. {'again' if is_same else ID}"
    padding = "All work and no play makes a long prompt. "
    missing = max(size - 200, 0)
    prompt += (padding * (missing // len(padding) + 1))[:missing]
    return _body({}, prompt)


def stream_body(frames: int, interval_ms: int) -> str:
    """Returns the template of a streamed request that the paced upstream answers with this many
    frames."""
    return _body({"stream": True}, f"frames={frames} every={interval_ms}ms {ID}")


def _body(more: Mapping[str, object], prompt: str) -> str:
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": prompt},
    ]
    body = {"model": MODEL, "messages": messages, "temperature": 0, **more}
    return json.dumps(body, separators=(",", ":"))
