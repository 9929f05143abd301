"""The tests of the clients' suites that the gateway refuses, each with its reason.

A test that is refused otherwise, or not at all, fails, and so does a row without a test.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .gateway_plugin import Refusal

UPSTREAM_FORMATS = ("openai_chat", "anthropic_messages")


@dataclass(frozen=True, slots=True)
class Row:
    """A refusal that several tests of a client's suite get, and why it is right."""

    client: str
    tests: tuple[str, ...]
    """`file::function`, the file as in `suites.py`."""
    status: int | None
    text: str
    reason: str
    variants: tuple[str, ...] = ()
    passes_with: Mapping[str, Any] | None = None
    upstreams: tuple[str, ...] = UPSTREAM_FORMATS

    def refusals(self) -> Iterator[Refusal]:
        """One for each test."""
        for test in self.tests:
            yield Refusal(test, self.status, self.text, self.variants, self.passes_with)


def in_each_way(file: str, *actions: str) -> tuple[str, ...]:
    """The tests of a resource's actions: called plainly, for a raw and for a streaming response."""
    ways = ("method", "raw_response", "streaming_response")
    return tuple(f"{file}::test_{way}_{action}" for action in actions for way in ways)


def with_all_params(file: str) -> tuple[str, ...]:
    """The tests that send every parameter there is, plain and streamed."""
    return tuple(f"{file}::test_method_create_with_all_params_overload_{n}" for n in (1, 2))


CHAT = "chat/test_completions.py"
NOTHING_STORED = "The gateway stores no completions, so there are none to read, change or delete."
PRICE_IS_THE_OPERATORS = "An operator opens on a route the fields that change the price."
NO_ANSWER_WITHOUT_TOKENS = "The documents of the vendors ask for at least one token of an answer."

ANSWERABLE = {
    "max_tokens": None,
    "max_completion_tokens": 1,
    "web_search_options": None,  # An operator opens on a route what a vendor runs.
}

ROWS = (
    Row(
        "openai",
        in_each_way(CHAT, "retrieve", "update", "delete"),
        404,
        "There is nothing at this path.",
        NOTHING_STORED,
    ),
    Row(
        "openai",
        (*in_each_way(CHAT, "list"), f"{CHAT}::test_method_list_with_all_params"),
        405,
        "Only POST can be used here.",
        NOTHING_STORED,
    ),
    Row(
        "openai",
        in_each_way("test_models.py", "delete"),
        405,
        "Only GET can be used here.",
        "Models are deleted in the admin.",
    ),
    Row(
        "openai",
        in_each_way("test_embeddings.py", "create"),
        None,
        "Data returned by API invalid for expected schema.",
        "The client asks for base64 of its own accord and, when it checks answers, refuses it.",
        variants=("strict", "aiohttp"),
    ),
    Row(
        "openai",
        with_all_params(CHAT),
        400,
        "max_tokens must be 1 or more.",
        NO_ANSWER_WITHOUT_TOKENS,
        passes_with=ANSWERABLE,
        upstreams=("openai_chat",),
    ),
    Row(
        "openai",
        with_all_params(CHAT),
        400,
        "max_tokens must be 1 or more.",
        NO_ANSWER_WITHOUT_TOKENS,
        # Without these the answer would not be what the caller asked for.
        passes_with={**ANSWERABLE, "functions": None, "moderation": None},
        upstreams=("anthropic_messages",),
    ),
    Row(
        "mistralai",
        tuple(
            f"mistralai_client.py::test_{what}"
            for what in ("streamed_tool_calls", "embeddings", "models")
        ),
        200,
        "Response validation failed",
        "The client wants fields that OpenAI's format lacks: a name in each part of a call, the id "
        "of embeddings, the type of a model.",
    ),
    Row(
        "cerebras-cloud-sdk",
        (f"{CHAT}::test_method_create_with_all_params",),
        400,
        "max_tokens must be 1 or more.",
        NO_ANSWER_WITHOUT_TOKENS,
        # The type of its tool is `type`, so it would be one that the vendor runs.
        passes_with={**ANSWERABLE, "tools": None, "tool_choice": None},
    ),
    Row(
        "streams",
        ("streams_client.py::test_chat_completions",),
        200,
        "Data returned by API invalid for expected schema.",
        "The client wants the type of a call in each part of it, OpenAI's format has it once.",
        variants=("Cerebras-tools",),
    ),
    Row(
        "anthropic",
        with_all_params("test_messages.py"),
        400,
        "The field inference_geo can change the price",
        PRICE_IS_THE_OPERATORS,
        passes_with={"inference_geo": "global"},
    ),
    Row(
        "anthropic",
        with_all_params("beta/test_messages.py"),
        400,
        "The field billing_policy can change the price",
        PRICE_IS_THE_OPERATORS,
        passes_with={"billing_policy": None, "inference_geo": "global", "mcp_servers": None},
    ),
)


def refusals_of(client: str, upstream: str) -> list[Refusal]:
    """The refusals that tests of a client get over an upstream format."""
    rows = [row for row in ROWS if row.client == client and upstream in row.upstreams]
    return [refusal for row in rows for refusal in row.refusals()]
