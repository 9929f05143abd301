"""The admin pages, one file for each area."""

from . import access, breakers, health, models, providers, routes, usage

__all__ = ["access", "breakers", "health", "models", "providers", "routes", "usage"]
