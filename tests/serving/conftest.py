"""Fixtures of the requests over ASGI: a configuration, a router, a key and settings."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from llm_routing import BaseLLMRouter
from llm_routing.conf import get_settings
from llm_routing.models import ApiKey
from llm_routing.process.background import ensure_background
from tests.router.conftest import clean_process, configuration, connections_given_back, router

__all__ = ["clean_process", "configuration", "connections_given_back", "router"]


@pytest.fixture
async def key(router: BaseLLMRouter) -> str:
    """The clear text of a key that the process knows."""
    _, clear_text = await sync_to_async(ApiKey.objects.issue)("tests")
    # Otherwise the background thread may notice the key later, and have all keys looked up again.
    await sync_to_async(ensure_background().read_versions)()
    return clear_text


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets settings by their environment variables."""

    def set_limits(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))
        get_settings.cache_clear()

    return set_limits
