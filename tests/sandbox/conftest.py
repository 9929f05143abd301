"""A sandbox in the test's own event loop, with the official clients connected to it."""

from collections.abc import AsyncIterator

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from llm_routing.sandbox import Sandbox


@pytest.fixture
async def vendor() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def openai_client(vendor: Sandbox) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=vendor.openai_url, api_key="sk-sandbox-secret", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def anthropic_client(vendor: Sandbox) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(
        base_url=vendor.url, api_key="sk-sandbox-secret", max_retries=0
    ) as client:
        yield client
