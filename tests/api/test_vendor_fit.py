"""Requests over HTTP are adapted to the vendor that answers; features that it lacks go to the next
target."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from llm_routing.models import Provider

from .conftest import Gateway

STREAMED = pytest.mark.parametrize("stream", [False, True])
TOOL = {"type": "function", "function": {"name": "files.read", "parameters": {"type": "object"}}}


async def make_first(vendor: str) -> None:
    """Makes the first provider one of this vendor."""

    def save() -> None:
        provider = Provider.objects.get(name="first")
        provider.vendor = vendor
        provider.set_api_key("sk-sandbox-1")
        provider.save()

    await sync_to_async(save)()


@STREAMED
async def test_a_strict_vendor_gets_only_supported_fields(gateway: Gateway, stream: bool) -> None:
    await make_first("mistral")
    response = await gateway.chat(
        seed=1, store=True, verbosity="low", temperature=1.9, stream=stream
    )
    assert response.status_code == 200
    assert response.headers["x-llm-provider"] == "first"
    assert response.headers["x-llm-ignored"] == "store, verbosity, temperature"
    fields = set(gateway.sandbox.journal.entries[-1].fields)
    assert "random_seed" in fields
    assert not fields & {"seed", "store", "verbosity", "stream_options"}


@STREAMED
async def test_an_unsupported_feature_goes_to_the_next_target(
    gateway: Gateway, stream: bool
) -> None:
    await make_first("groq")
    response = await gateway.chat(n=2, stream=stream)
    assert response.status_code == 200
    assert response.headers["x-llm-provider"] == "second"
    # Nothing was sent to the first one.
    assert len(gateway.sandbox.journal.entries) == 1


@STREAMED
@pytest.mark.parametrize("caller", ["openai", "anthropic"])
async def test_a_renamed_tool_has_its_own_name_again(
    gateway: Gateway, caller: str, stream: bool
) -> None:
    await make_first("openai")
    text = "Ask files_read_ about it."
    fields: dict[str, Any] = {"stream": stream}
    if caller == "openai":
        response = await gateway.chat(text, tools=[TOOL], tool_choice="required", **fields)
    else:
        tool = {"name": "files.read", "input_schema": {"type": "object"}}
        response = await gateway.message(
            text, model="debugging", tools=[tool], tool_choice={"type": "any"}, **fields
        )
    assert response.status_code == 200
    assert '"files.read"' in response.text
    assert "files_read_" not in response.text
