"""The routers that Django code and the HTTP API call."""

from .base import BaseLLMRouter
from .routers import DynamicLLMRouter, StaticLLMRouter

__all__ = ["BaseLLMRouter", "DynamicLLMRouter", "StaticLLMRouter"]
