"""An LLM gateway as a reusable Django app.

    from llm_routing import get_llm_router

    router = await get_llm_router()
    answer = await router.complete("Why does this loop not end?", use_case="debugging")

Names are imported when they are used, so that the package may stand in `INSTALLED_APPS`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.config import RouterConfig
    from .core.types import LLMRequest, LLMResponse, ModelTier, UseCase
    from .factory import close_routers, get_llm_router, get_llm_router_sync
    from .router.base import BaseLLMRouter

__version__ = "0.1.0"

_HOMES = {
    "BaseLLMRouter": "router",
    "LLMRequest": "core.types",
    "LLMResponse": "core.types",
    "ModelTier": "core.types",
    "RouterConfig": "core.config",
    "UseCase": "core.types",
    "close_routers": "factory",
    "get_llm_router": "factory",
    "get_llm_router_sync": "factory",
}

__all__ = [
    "BaseLLMRouter",
    "LLMRequest",
    "LLMResponse",
    "ModelTier",
    "RouterConfig",
    "UseCase",
    "close_routers",
    "get_llm_router",
    "get_llm_router_sync",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
