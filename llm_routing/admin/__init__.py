"""The admin pages, one module per area."""

from . import access, breakers, health, models, providers, routes, usage

__all__ = ["access", "breakers", "health", "models", "providers", "routes", "usage"]
