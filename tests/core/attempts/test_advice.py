"""Errors that a setting or a command of an operator ends say so."""

from dataclasses import replace

import pytest

from llm_routing.core.attempts.advice import FORBIDDEN_ADDRESS
from llm_routing.core.breaker import Rejected
from llm_routing.core.errors import (
    AddressForbidden,
    AllTargetsFailed,
    ConnectionFailed,
    ConnectTimeout,
    NoTargetAvailable,
    RoutingError,
    ServerFailed,
    UpstreamError,
)
from llm_routing.core.quirks import Quirks
from llm_routing.core.routing_table import Target
from tests.core.fakes import World, call, failing, plan_for, target
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

HINT = "Start it: run it."


def hinting(name: str) -> Target:
    """Returns a target whose provider has a hint."""
    plain = target(name)
    return replace(plain, provider=replace(plain.provider, quirks=Quirks(unreachable_hint=HINT)))


async def error_of(world: World, *targets: Target) -> RoutingError:
    with pytest.raises(RoutingError) as caught:
        await world.executor.complete(TextOperation(), plan_for(targets), call())
    return caught.value


@pytest.mark.parametrize("error", [ConnectionFailed("No."), ConnectTimeout("No.")])
@in_virtual_time
async def test_a_provider_that_cannot_be_reached_is_named_with_its_hint(
    error: UpstreamError,
) -> None:
    world = World()
    world.script("a", *[failing(error)] * 5)
    found = await error_of(world, hinting("a"))
    assert found.message.endswith(f"). {HINT}")
    assert found.message.count(HINT) == 1


@in_virtual_time
async def test_another_failure_has_no_hint() -> None:
    world = World()
    world.script("a", *[failing(ServerFailed("No."))] * 5)
    assert HINT not in (await error_of(world, hinting("a"))).message


@in_virtual_time
async def test_a_provider_without_a_hint_gets_none() -> None:
    world = World()
    world.script("a", *[failing(ConnectionFailed("No."))] * 5)
    assert (await error_of(world, target("a"))).message.endswith("connection_failed).")


@in_virtual_time
async def test_an_address_that_settings_forbid_names_the_setting() -> None:
    world = World()
    world.script("a", failing(AddressForbidden("The address 10.0.0.1 is not public.")))
    found = await error_of(world, hinting("a"))
    assert isinstance(found, AllTargetsFailed)
    assert found.message == f"Every target failed (a/m: address_forbidden). {FORBIDDEN_ADDRESS}"


class OpenBreakers:
    """A breaker store in which every breaker is open."""

    def __init__(self, cause: str) -> None:
        self._cause = cause

    async def admit(self, target: Target, *, force: bool = False) -> Rejected:
        return Rejected(9.0, cause=self._cause)


@pytest.mark.parametrize(
    ("cause", "ending"), [("connection_failed", f" {HINT}"), ("server_failed", "")]
)
@in_virtual_time
async def test_an_open_breaker_has_the_hint_of_what_opened_it(cause: str, ending: str) -> None:
    found = await error_of(World(OpenBreakers(cause)), hinting("a"))
    assert isinstance(found, NoTargetAvailable)
    assert found.message == f"No target can be called (a/m: breaker_open).{ending}"
