"""The admin pages, one file for each area."""

from . import access, health, models, providers, routes, usage

__all__ = ["access", "health", "models", "providers", "routes", "usage"]
