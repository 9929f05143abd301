"""Whatever a caller writes in place of any field, the request is read and written for both vendors,
or it is one of our errors."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llm_routing.core.codec import decode
from llm_routing.formats.openai_embeddings.wire_format import OpenAIEmbeddings
from llm_routing.formats.registry import FORMATS
from tests.formats.conversation import QUESTIONS
from tests.formats.mutations import mutated, only_our_errors
from tests.formats.vendor_requests import target

VENDORS = ("openai", "mistral", "google", "deepseek", "anthropic")
EXTRAS: dict[str, dict[str, Any]] = {
    "openai_chat": {
        "stop": ["x"],
        "logit_bias": {"1": 1},
        "metadata": {"a": "b"},
        "stream_options": {"include_usage": True},
        "reasoning": {"effort": "low", "max_tokens": 9},
        "thinking": {"type": "enabled", "budget_tokens": 9},
        "functions": [{"name": "g", "parameters": {}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE"}},
                    {"type": "input_audio", "input_audio": {"data": "AAAA"}},
                ],
            },
            {"role": "assistant", "audio": {"id": "a"}, "function_call": {"name": "g"}},
            {"role": "function", "name": "g", "content": "x"},
        ],
    },
    "anthropic_messages": {
        "stop_sequences": ["x"],
        "metadata": {"user_id": "u"},
        "thinking": {"type": "enabled", "budget_tokens": 9},
        "thread": {"type": "continue", "previous_message_id": "m"},
        "mcp_servers": [{"type": "url", "url": "https://x.example", "name": "m"}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "document",
                        "title": "t",
                        "citations": {"enabled": True},
                        "source": {"type": "text", "media_type": "text/plain", "data": "a"},
                    },
                    {
                        "type": "document",
                        "source": {"type": "content", "content": [{"type": "text", "text": "q"}]},
                    },
                    {"type": "search_result", "source": "x", "title": "t", "content": []},
                ],
            }
        ],
    },
}


def bodies(caller: str) -> list[dict[str, Any]]:
    """The question of the crossings, and a short one with each other field."""
    question = QUESTIONS[caller]
    short = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    return [question, *({**short, name: value} for name, value in EXTRAS[caller].items())]


def decoded(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the mutations of a body that reach a format."""
    for what, data in mutated(body):
        try:
            value = decode(data)
        except ValueError:
            continue
        yield what, value


@pytest.mark.parametrize("caller", sorted(QUESTIONS))
def test_completions(caller: str) -> None:
    targets = [target(vendor) for vendor in VENDORS]
    for body in bodies(caller):
        for what, value in decoded(body):
            with only_our_errors(what):
                request = FORMATS[caller].read_request(value)
                for one in targets:
                    vendor = FORMATS[one.provider.format]
                    with only_our_errors(f"{what} for {one.model.key}"):
                        json.loads(vendor.write_request(request, one).body)


def test_embeddings() -> None:
    wire_format = OpenAIEmbeddings()
    body = {"model": "m", "input": ["a", [1, 2]], "encoding_format": "float", "dimensions": 8}
    for what, value in decoded(body):
        with only_our_errors(what):
            request = wire_format.read_embedding_request(value)
            json.loads(wire_format.write_embedding_request(request, target("openai")).body)
