"""Callers of the gateway in each of its formats, and their reading of its answers."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

ANSWER_SECONDS = 30.0
"""Far less than the deadlines of the gateway by default, and enough on a busy machine."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller got. `error` is the code of an error, before or within the stream; `is_whole`:
    the answer says itself that it is complete; `seconds` is how long it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    text: str
    error: str
    is_whole: bool
    seconds: float

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]


@dataclass(frozen=True, slots=True)
class Read:
    """The part of a reply that depends on the format."""

    text: str = ""
    error: str = ""
    is_whole: bool = False


class Caller:
    """One way to ask: a format, streamed or not."""

    path = ""

    def __init__(self, *, stream: bool) -> None:
        self.stream = stream

    def __repr__(self) -> str:
        return f"{type(self).__name__}{' streaming' if self.stream else ''}"

    def body(self, model: str, prompt: str) -> dict[str, Any]:
        """The request's body."""
        messages = [{"role": "user", "content": prompt}]
        return {"model": model, "messages": messages, "stream": self.stream}

    def whole(self, body: Any) -> Read:
        """Reads an answer in one piece."""
        raise NotImplementedError

    def events(self, events: Sequence[tuple[str, str]]) -> Read:
        """Reads an answer in events (name, data)."""
        raise NotImplementedError

    def refusal(self, body: Any) -> str:
        """The code of an error that came in place of an answer."""
        raise NotImplementedError


class Native(Caller):
    path = "/api/llm/complete"

    def whole(self, body: Any) -> Read:
        return Read(body["content"], "", body["finish_reason"] is not None)

    def events(self, events: Sequence[tuple[str, str]]) -> Read:
        text = "".join(json.loads(data).get("text", "") for name, data in events if name == "delta")
        failed = [json.loads(data) for name, data in events if name == "error"]
        return Read(text, self.refusal(failed[0]) if failed else "", events[-1][0] == "done")

    def refusal(self, body: Any) -> str:
        return str(body["error"]["code"])


class OpenAI(Caller):
    path = "/v1/chat/completions"

    def whole(self, body: Any) -> Read:
        choice = body["choices"][0]
        return Read(choice["message"]["content"], "", bool(choice["finish_reason"]))

    def events(self, events: Sequence[tuple[str, str]]) -> Read:
        text, error, has_finish = "", "", False
        for _, data in events:
            if data == "[DONE]":
                continue
            chunk = json.loads(data)
            if chunk.get("error"):
                error = self.refusal(chunk)
                continue
            for choice in chunk["choices"]:
                text += choice["delta"].get("content") or ""
                has_finish = has_finish or bool(choice["finish_reason"])
        return Read(text, error, events[-1][1] == "[DONE]" and has_finish)

    def refusal(self, body: Any) -> str:
        return str(body["error"]["code"])


class Anthropic(Caller):
    path = "/v1/messages"

    def body(self, model: str, prompt: str) -> dict[str, Any]:
        return {**super().body(model, prompt), "max_tokens": 5000}

    def whole(self, body: Any) -> Read:
        text = "".join(block.get("text", "") for block in body["content"])
        return Read(text, "", bool(body["stop_reason"]))

    def events(self, events: Sequence[tuple[str, str]]) -> Read:
        text, error = "", ""
        for name, data in events:
            value = json.loads(data)
            assert value["type"] == name
            if name == "content_block_delta":
                text += value["delta"].get("text", "")
            elif name == "error":
                error = self.refusal(value)
        return Read(text, error, events[-1][0] == "message_stop")

    def refusal(self, body: Any) -> str:
        return str(body["error"]["details"]["error_code"])


CALLERS: Sequence[Caller] = tuple(
    kind(stream=stream) for kind in (Native, OpenAI, Anthropic) for stream in (False, True)
)
STREAMING = tuple(caller for caller in CALLERS if caller.stream)


@dataclass(slots=True)
class Client:
    """Asks with one key and keeps what it was told. Every prompt holds a word of its own, which
    must be found nowhere afterwards."""

    http: httpx.AsyncClient
    replies: list[Reply] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)

    async def ask(
        self,
        caller: Caller,
        model: str = "debugging",
        *,
        faults: str = "",
        deadline: float | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Reply:
        """One request, read to its end. `faults` are directives for the sandbox, in the prompt;
        with a `deadline` the answer has to come not long after it."""
        mark = f"prompt-{uuid4().hex}"
        self.marks.append(mark)
        body = {**caller.body(model, f"{mark} {faults}"), **more}
        sent = dict(headers or {})
        if deadline is not None:
            sent["X-Request-Timeout"] = str(deadline)
        began = time.monotonic()
        async with asyncio.timeout((deadline or 0) + ANSWER_SECONDS):
            response = await self.http.post(caller.path, json=body, headers=sent)
        reply = read(caller, response, time.monotonic() - began)
        self.replies.append(reply)
        return reply


def read(caller: Caller, response: httpx.Response, seconds: float) -> Reply:
    """What a response says to a client of this format."""
    if response.status_code != 200:
        found = Read(error=caller.refusal(response.json()))
    elif caller.stream:
        found = caller.events(events_of(response.content))
    else:
        found = caller.whole(response.json())
    return Reply(
        status=response.status_code,
        headers=response.headers,
        body=response.content,
        text=found.text,
        error=found.error,
        is_whole=found.is_whole,
        seconds=seconds,
    )


def events_of(body: bytes) -> list[tuple[str, str]]:
    """The events of a stream, comments left out."""
    found = []
    text = body.decode("utf-8-sig").replace("\r\n", "\n")
    assert text.endswith("\n\n"), text[-200:]
    for block in text.split("\n\n"):
        name, data = "", []
        for line in block.split("\n"):
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
        if data:
            found.append((name, "\n".join(data)))
    return found
