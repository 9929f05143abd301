"""Reads plans made from mappings, for the tests of mappings."""

import json

from llm_routing.importing.plan import PlannedRoute

from .conftest import plan_of


def routes(plan) -> dict[str, PlannedRoute]:
    return {route.name: route for route in plan.routes}


def models(route: PlannedRoute) -> list[str]:
    return [target.model for target in route.targets]


def from_value(written, value, **options):
    return plan_of(written(json.dumps({"mappings": value}), "m.json"), **options)
