"""The cost of a relayed frame, counted: no query, thread, task or timer, and no JSON parsed."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import pytest

from llm_routing.formats.anthropic_messages import read_stream as anthropic_stream
from llm_routing.formats.openai_chat import read_stream as openai_chat_stream

from .exchange import Exchange, chat, watch_hops

PATHS = ["/v1/chat/completions", "/v1/messages"]
SHORT, LONG = 20, 220


def body(words: int) -> bytes:
    text = "[[token_delay=0.001]] " + " ".join(f"word{n}" for n in range(words))
    return chat(text, stream=True, max_tokens=1000)


class Counts:
    """Tasks, timers and JSON texts since it was made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tasks = self.timers = self.texts = 0
        loop = asyncio.get_running_loop()
        # The callers' side is this test's own loop; its sandbox runs in a thread of its own.
        create, later = loop.create_task, loop.call_at

        def create_task(*args: Any, **options: Any) -> Any:
            self.tasks += 1
            return create(*args, **options)

        def call_at(*args: Any, **options: Any) -> Any:
            self.timers += 1
            return later(*args, **options)

        monkeypatch.setattr(loop, "create_task", create_task)
        monkeypatch.setattr(loop, "call_at", call_at)
        for module in (openai_chat_stream, anthropic_stream):
            decode = module.decode

            def counted(data: bytes, decode: Any = decode) -> Any:
                self.texts += 1
                return decode(data)

            monkeypatch.setattr(module, "decode", counted)


@pytest.mark.parametrize("path", PATHS)
async def test_more_frames_cost_no_more_tasks_timers_or_json(
    key: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await Exchange(path, body(5), key).run()).status == 200
    found: list[tuple[int, int, int]] = []
    frames: list[int] = []
    hops = watch_hops(monkeypatch)
    for words in (SHORT, LONG):
        with monkeypatch.context() as patched:
            counts = Counts(patched)
            exchange = await Exchange(path, body(words), key).run()
        assert exchange.status == 200
        found.append((counts.tasks, counts.timers, counts.texts))
        frames.append(len(re.findall(rb"^data:", exchange.content, re.MULTILINE)))
    assert hops == []
    more_frames = frames[1] - frames[0]
    assert more_frames >= 150, "the sandbox streams word by word"
    more = [after - before for before, after in zip(*found, strict=True)]
    # Some slack for a timer that looks again; a cost of each frame would be in the hundreds.
    assert all(count <= more_frames / 20 for count in more), (frames, found)


@pytest.mark.parametrize("path", PATHS)
async def test_frames_are_sent_in_the_batches_in_which_they_arrive(key: str, path: str) -> None:
    exchange = await Exchange(path, body(SHORT), key).run()
    parts = [event for event in exchange.sent[1:] if event.get("body")]
    assert all(_is_whole(part) for part in parts)


def _is_whole(part: Mapping[str, Any]) -> bool:
    return bytes(part["body"]).endswith(b"\n\n")
