"""The cost of a warm plain request, counted and not timed, so that the guard needs no clock."""

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from llm_routing.access import api_keys as access
from llm_routing.backends.redis.connection import RedisConnection
from llm_routing.core import codec
from llm_routing.core.json_size import exceeds
from llm_routing.core.ports import WireRequest
from llm_routing.core.routing_table import Target
from llm_routing.core.types import LLMRequest
from llm_routing.formats import operations
from llm_routing.formats.openai_chat import plain_response
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.ledger import journal
from llm_routing.ledger.segments import Segment
from llm_routing.models.access import key_digest

from .exchange import CHAT_PATH, Exchange, chat, watch_hops


@dataclass
class Cost:
    """The work of this thread since the counters started. `hops` are threads, executors and
    queries; `decoded` the JSON texts parsed, `built` the targets for which a request was written,
    `digests` the API keys digested anew, `files` the files opened or written to by a system call,
    `fernets` the texts encrypted with Fernet."""

    hops: list[str]
    tasks: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    decoded: list[bytes] = field(default_factory=list)
    built: list[str] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    digests: int = 0
    fernets: int = 0


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Begins to count when it is called, in the running event loop."""
    loops: list[asyncio.AbstractEventLoop] = []

    def begin() -> Cost:
        cost = Cost(watch_hops(monkeypatch))
        here = threading.get_ident()
        build, append = OpenAIChat.write_request, Segment.append
        ask = RedisConnection.execute

        def watched_limits(data: bytes, limits: Any) -> bool:
            # Each JSON text passes here once, before it is decoded.
            if threading.get_ident() == here:
                cost.decoded.append(data)
            return exceeds(data, limits)

        def watched_build(self: OpenAIChat, request: LLMRequest, target: Target) -> WireRequest:
            cost.built.append(target.model.key)
            return build(request, target)

        def watched_append(self: Segment, line: bytes) -> bool:
            cost.lines.append(line)
            return append(self, line)

        def watched_ask(self: RedisConnection, *command: Any) -> Any:
            # The breakers' board has a time of its own.
            if ":answer:" in str(command):
                cost.commands.append(str(command[0]))
            return ask(self, *command)

        def watched_task(
            loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
        ) -> "asyncio.Task[Any]":
            cost.tasks.append(coroutine.__qualname__)
            return asyncio.Task(coroutine, loop=loop, **options)

        def watched_digest(clear_text: str) -> str:
            cost.digests += 1
            return key_digest(clear_text)

        def watched_file(name: str) -> None:
            call = getattr(os, name)

            def watched(*arguments: Any, **how: Any) -> Any:
                if threading.get_ident() == here:
                    cost.files.append(name)
                return call(*arguments, **how)

            monkeypatch.setattr(os, name, watched)

        def watched_fernet(self: Fernet, *arguments: Any) -> bytes:
            cost.fernets += 1
            return seal(self, *arguments)

        seal = Fernet.encrypt_at_time
        monkeypatch.setattr(Fernet, "encrypt_at_time", watched_fernet)
        for name in ("open", "write", "pwrite", "fsync", "replace"):
            watched_file(name)
        monkeypatch.setattr(access, "key_digest", watched_digest)
        monkeypatch.setattr(codec, "exceeds", watched_limits)
        monkeypatch.setattr(plain_response, "exceeds", watched_limits)
        monkeypatch.setattr(OpenAIChat, "write_request", watched_build)
        monkeypatch.setattr(Segment, "append", watched_append)
        monkeypatch.setattr(RedisConnection, "execute", watched_ask)
        loop = asyncio.get_running_loop()
        loop.set_task_factory(watched_task)
        loops.append(loop)
        return cost

    yield begin
    for loop in loops:
        loop.set_task_factory(None)


async def warm(key: str) -> None:
    # The first connection, the first look at the key, the first use of each module.
    for text in ("one", "two"):
        # Redis may contain entries of another test.
        body = chat(f"{text} {uuid4()}", temperature=0)
        answer = await Exchange(CHAT_PATH, body, key).run()
        assert answer.status == 200, answer.content


async def test_a_warm_request_costs_only_the_minimum(key: str, watch: Any) -> None:
    await warm(key)
    body = chat(f"three {uuid4()}", temperature=0)
    cost = watch()
    answer = await Exchange(CHAT_PATH, body, key).run()

    assert headers(answer)["x-llm-cache"] == "miss"
    assert cost.hops == []
    assert cost.tasks == []
    assert cost.decoded == [body, answer.content]
    assert sorted(cost.built) == ["first/alpha", "second/beta"]
    assert [line[:1] for line in cost.lines] == [b"O", b"S"]
    assert (cost.digests, cost.fernets) == (0, 0)
    # Each line of the ledger is one write.
    assert cost.files == ["pwrite", "pwrite"]
    assert [event["type"] for event in answer.sent] == [
        "http.response.start",
        "http.response.body",
    ]
    # One to look up and take the lease, one to report the answer.
    assert cost.commands == (["EVALSHA"] * 2 if "REDIS_URL" in os.environ else [])


async def test_the_guard_sees_a_request_that_is_built_for_every_use(
    key: str, watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await warm(key)
    monkeypatch.setattr(operations, "MAX_KEPT_BYTES", 0)
    cost = watch()
    await Exchange(CHAT_PATH, chat(f"three {uuid4()}", temperature=0), key).run()
    assert sorted(cost.built) == ["first/alpha", "first/alpha", "second/beta"]


async def test_the_guard_sees_a_key_that_is_looked_at_anew(key: str, watch: Any) -> None:
    await warm(key)
    access.api_keys.invalidate()
    cost = watch()
    await Exchange(CHAT_PATH, chat("three", temperature=0), key).run()
    assert cost.digests == 1
    assert cost.hops


async def test_the_guard_sees_a_ledger_that_begins_another_file(
    key: str, watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1)  # each attempt needs a segment of its own
    await warm(key)
    cost = watch()
    await Exchange(CHAT_PATH, chat(f"three {uuid4()}", temperature=0), key).run()
    assert "open" in cost.files


async def test_the_guard_notices_the_cost_of_a_second_attempt_and_of_a_task(
    key: str, watch: Any
) -> None:
    await warm(key)
    cost = watch()

    async def in_a_task() -> Exchange:
        return await Exchange(CHAT_PATH, chat("[[model=alpha]] [[status=500]] Hi"), key).run()

    await asyncio.create_task(in_a_task())
    assert [name.rpartition(".")[2] for name in cost.tasks].count("in_a_task") == 1
    assert len(cost.lines) > 2
    assert len(cost.decoded) > 2


def headers(exchange: Exchange) -> Mapping[str, str]:
    return {name.decode().lower(): value.decode() for name, value in exchange.sent[0]["headers"]}
