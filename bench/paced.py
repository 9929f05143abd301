"""The upstream of streams: an SSE server that sends a frame at each beat. `python -m bench.paced`.

The prompt says how many frames and how often: `frames=100 every=10ms`.
"""

import asyncio
import json
import re
import sys
import time
from typing import cast

import httptools
import uvloop

from .targets import WORD

_PACE = re.compile(rb"frames=(\d+) every=(\d+)ms")
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    """A chunk of HTTP/1.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame(delta: dict[str, str], finish: str | None = None) -> bytes:
    """A frame as OpenAI sends it."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    facts = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1700000000}
    text = json.dumps(facts | {"model": "bench", "choices": [choice]}, separators=(",", ":"))
    return b"data: %b\n\n" % text.encode()


def usage(frames: int) -> bytes:
    """Returns the usage frame, which follows the last content frame on request."""
    counts = {"prompt_tokens": 20, "completion_tokens": frames, "total_tokens": 20 + frames}
    facts = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1700000000}
    text = json.dumps(facts | {"model": "bench", "choices": [], "usage": counts})
    return b"data: %b\n\n" % text.encode()


_FIRST = chunk(frame({"role": "assistant", "content": f"{WORD} "}))
_NEXT = chunk(frame({"content": f"{WORD} "}))
_FINISH = chunk(frame({}, "stop"))
_DONE = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Paced(asyncio.Protocol):
    """One connection, kept alive."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio.Protocol."""
        if self._task is not None:
            self._task.cancel()

    def on_body(self, body: bytes) -> None:
        """Of httptools."""
        self._body += body

    def on_message_complete(self) -> None:
        """Of httptools: the request is whole."""
        body = bytes(self._body)
        self._body.clear()
        found = _PACE.search(body)
        if found is None:  # a peer that only checks whether the server is up
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        frames, interval = int(found[1]), int(found[2]) / 1e3
        self._task = asyncio.create_task(self._stream(frames, interval, b"include_usage" in body))

    async def _stream(self, frames: int, interval: float, asks_for_usage: bool) -> None:
        self._transport.write(_HEAD + _FIRST)
        start = time.perf_counter()
        for beat in range(1, frames):
            await asyncio.sleep(max(start + beat * interval - time.perf_counter(), 0))
            self._transport.write(_NEXT)
        end = chunk(usage(frames)) if asks_for_usage else b""
        self._transport.write(_FINISH + end + _DONE)


async def serve(port: int) -> None:
    """Serves until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Paced, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
