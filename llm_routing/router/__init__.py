"""Routers: what Django code and the HTTP API call."""

from .routers import BaseLLMRouter, DynamicLLMRouter, StaticLLMRouter

__all__ = ["BaseLLMRouter", "DynamicLLMRouter", "StaticLLMRouter"]
