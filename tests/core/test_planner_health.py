"""Unhealthy targets are tried after the healthy ones."""

from random import Random

from llm_routing.core.capabilities import Capability
from llm_routing.core.planner import Address, plan
from llm_routing.core.routing_table import (
    ModelSpec,
    ProviderSpec,
    RouteSpec,
    RoutingTable,
    TargetSpec,
)


def order(*unhealthy: str, needs: str = "", **capabilities: str) -> str:
    """Returns the models `a`, `b`, … of one route in the order in which they are tried."""
    models = {
        f"p/{name}": ModelSpec("p", name, capabilities=frozenset(["chat", *words.split()]))
        for name, words in capabilities.items()
    }
    targets = tuple(TargetSpec(key, position) for position, key in enumerate(models))
    table = RoutingTable(
        1,
        {"p": ProviderSpec("p", "v", "f", "https://x.test")},
        models,
        {"u:standard": RouteSpec("u", "standard", targets)},
    )
    found = plan(
        table,
        Address(use_case="u"),
        operation=Capability.CHAT,
        needs=frozenset(needs.split()),
        unhealthy=frozenset(f"p/{name}" for name in unhealthy),
        default=Address(),
        rng=Random(1),
    )
    return "".join(target.model.model_id for target in found.targets)


def test_unhealthy_targets_come_last_and_keep_their_order() -> None:
    assert order(a="", b="", c="") == "abc"
    assert order("a", a="", b="", c="") == "bca"
    assert order("a", "b", a="", b="", c="") == "cab"


def test_if_all_targets_are_unhealthy_all_are_tried_in_order() -> None:
    assert order("a", "b", a="", b="") == "ab"


def test_an_unhealthy_target_with_the_capabilities_precedes_a_healthy_one_without() -> None:
    assert order("a", needs="tools", a="tools", b="") == "ab"
    assert order("a", needs="tools", a="tools", b="", c="tools") == "cab"
