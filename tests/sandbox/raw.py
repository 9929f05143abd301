"""A client that records the raw bytes of a connection up to its end."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from llm_routing.sandbox import Sandbox

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
EMBEDDINGS = "/v1/embeddings"


@dataclass(frozen=True, slots=True)
class Carried:
    """Everything received before the connection ended."""

    data: bytes

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def status(self) -> int:
        return int(self.head.split(" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        lines = [line.partition(": ") for line in self.head.split("\r\n")[1:]]
        return {name.lower(): value for name, _, value in lines}

    @property
    def body(self) -> bytes:
        """The body with its framing, including chunk sizes."""
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def payload(self) -> bytes:
        """The body without chunk sizes; raises ValueError if a chunk is truncated."""
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.body
        left, whole = self.body, b""
        while True:
            size, _, left = left.partition(b"\r\n")
            length = int(size, 16)
            if len(left) < length + 2:
                raise ValueError("the last chunk is broken off")
            whole += left[:length]
            left = left[length + 2 :]
            if length == 0:
                return whole

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def ended_properly(self) -> bool:
        """Whether the framing marks the end of the body."""
        if "content-length" in self.headers:
            return len(self.body) == int(self.headers["content-length"])
        return self.body.endswith(b"0\r\n\r\n")


def chat(text: str = "Hi", **more: Any) -> dict[str, Any]:
    """Returns a body for OpenAI's chat completions."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def message(text: str = "Hi", **more: Any) -> dict[str, Any]:
    """Returns a body for Anthropic's messages."""
    return {**chat(text), "max_tokens": 1000, **more}


def request(path: str, body: Any, method: str = "POST", **headers: str) -> bytes:
    """Returns a request as bytes; the connection ends after the response."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {
        "host": "sandbox",
        "connection": "close",
        "content-length": str(len(data)),
        "anthropic-version": "2023-06-01",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    if not path.startswith(MESSAGES):
        lines.pop("anthropic-version")
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + data


async def connect(sandbox: Sandbox) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Opens a connection."""
    url = urlsplit(sandbox.url)
    return await asyncio.open_connection(url.hostname, url.port)


async def fetch(
    sandbox: Sandbox, path: str, body: Any, method: str = "POST", **headers: str
) -> Carried:
    """Makes one exchange and reads until the sandbox closes the connection."""
    reader, writer = await connect(sandbox)
    try:
        writer.write(request(path, body, method, **headers))
        async with asyncio.timeout(90):
            return Carried(await reader.read())
    finally:
        writer.close()
        await writer.wait_closed()
