"""Decides which names address a use case.

Looks the tables up in Django's app registry, so that `model_configs`, which `routing` imports, can
use this module.
"""

from django.apps import apps

from llm_routing.core.types import ModelTier, UseCase


def is_use_case(name: str) -> bool:
    """Returns whether `name` is a built-in use case or the use case of a route, active or not."""
    if "\0" in name:
        return False  # PostgreSQL raises an error for a query with NUL
    if name in set(UseCase):
        return True
    routes = apps.get_model("llm_routing", "UseCaseRoute")
    return bool(routes.objects.filter(use_case=name).exists())


def is_route_address(name: str) -> bool:
    """Returns whether `name` addresses a use case, with or without a tier."""
    use_case, _colon, tier = name.rpartition(":")
    return is_use_case(name) or (tier in set(ModelTier) and is_use_case(use_case))
