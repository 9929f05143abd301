"""Turns an address into a plan: which targets to try, and in which order.

Pure: the table, the request and the randomness are arguments. The executor runs the plan.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, assert_never

from msgspec import Struct
from msgspec.structs import replace

from .capabilities import Capability
from .content import AnswerFormat, FilePart, ImagePart, Message, Role, TextPart, ToolResultPart
from .errors import InvalidRequest, NoTargetAvailable, UnknownModel
from .routing_table import (
    Inactive,
    RouteSpec,
    RoutingTable,
    StreamRecovery,
    Target,
    TargetSpec,
    route_key,
)
from .types import LLMRequest, ModelTier

_TIERS = tuple(tier.value for tier in ModelTier)


class Address(Struct, frozen=True):
    """The address in a request: a model, or a use case with or without a tier."""

    model: str | None = None
    use_case: str | None = None
    tier: str | None = None


class RoutePlan(Struct, frozen=True):
    """The targets to try, first to last; `route` is None if the request names a model directly."""

    targets: tuple[Target, ...]
    route: RouteSpec | None = None


def plan(
    table: RoutingTable,
    address: Address,
    *,
    operation: str,
    needs: frozenset[str] = frozenset(),
    unhealthy: Collection[str] = frozenset(),
    default: Address,
    rng: Random,
) -> RoutePlan:
    """Returns the plan for `address`; the parts that it does not set come from `default`.

    Targets that do not offer `operation` are left out. Targets that lack one of `needs` come after
    those that offer them all, and among equals the `unhealthy` ones (`provider/model_id`) come
    last. Raises `UnknownModel` (the message lists the known names), `InvalidRequest` if a named
    model does not offer the operation, or `NoTargetAvailable`.
    """
    # Most requests send only a name. The cache is bounded: there are no more such names than routes
    # times tiers.
    is_named = address.model is not None and address.use_case is None and address.tier is None
    asked = (address.model or "", default.tier or "", operation, needs)
    known = table.plans.get(asked) if is_named else None
    if known is None:
        found = _resolve(table, address, default)
        if isinstance(found, str):
            target = _target(table, found)
            if not target.model.offers(operation):
                raise InvalidRequest(
                    f"The model {found} does not offer {operation}.", field="model"
                )
            return RoutePlan((target,))
        route = (route_key(found.use_case, found.tier), "", operation, needs)
        known = table.plans.get(route) or _CompiledRoute.of(table, found, operation, needs)
        table.plans[route] = known
        if is_named:
            table.plans[asked] = known
    assert isinstance(known, _CompiledRoute)
    return known.plan(unhealthy, rng)


@dataclass(frozen=True, slots=True)
class _CompiledRoute:
    """The candidates for one operation and its required capabilities, compiled once per table.

    `places` are the targets in order, those that lack a capability last; `usual` is the plan if all
    targets are healthy and nothing is drawn by weight.
    """

    places: tuple[tuple[TargetSpec, Target, bool], ...]
    keys: frozenset[str]
    is_drawn: bool
    usual: RoutePlan

    @classmethod
    def of(
        cls, table: RoutingTable, route: RouteSpec, operation: str, needs: frozenset[str]
    ) -> "_CompiledRoute":
        """Compiles a route. Raises `InvalidRequest` or `NoTargetAvailable`."""
        present = [
            (spec, _target(table, spec.model))
            for spec in route.targets
            if spec.model in table.models
        ]
        name = route_key(route.use_case, route.tier)
        if not present:
            raise NoTargetAvailable(f"The route {name} has no active target.")
        able = [
            (spec, target, bool(needs - target.model.capabilities))
            for spec, target in present
            if target.model.offers(operation)
        ]
        if not able:
            raise InvalidRequest(
                f"No target of the route {name} offers {operation}.", field="model"
            )
        able.sort(key=_place)
        return cls(
            tuple(able),
            frozenset(target.model.key for _, target, _ in able),
            len(set(map(_place, able))) < len(able),
            RoutePlan(tuple(target for _, target, _ in able), route),
        )

    def plan(self, unhealthy: Collection[str], rng: Random) -> RoutePlan:
        """Returns the plan. Targets of one position are ordered by weighted random sampling without
        replacement: each draws an exponential arrival time with its weight as the rate (Efraimidis
        and Spirakis, 2006)."""
        if not self.is_drawn and self.keys.isdisjoint(unhealthy):
            return self.usual
        order = [
            (
                lacks,
                target.model.key in unhealthy,
                spec.position,
                target.provider.priority,
                rng.expovariate(spec.weight) if self.is_drawn else 0.0,
                index,
            )
            for index, (spec, target, lacks) in enumerate(self.places)
        ]
        return RoutePlan(
            tuple(self.places[index][1] for *_, index in sorted(order)), self.usual.route
        )


def _place(choice: tuple[TargetSpec, Target, bool]) -> tuple[bool, int, int]:
    """Sort key: capabilities, then position, then the provider's priority."""
    spec, target, lacks = choice
    return lacks, spec.position, target.provider.priority


def buffers_stream(table: RoutingTable, address: Address, default: Address) -> bool:
    """Returns whether the route of `address` (completed by `default`) holds streams back until they
    are complete. Raises `UnknownModel`."""
    found = _resolve(table, address, default)
    return isinstance(found, RouteSpec) and found.stream_recovery is StreamRecovery.BUFFER


def required_capabilities(request: LLMRequest) -> frozenset[Capability]:
    """Returns the capabilities that a target should have to answer `request`."""
    needs: set[Capability] = set()
    if request.tools:
        needs.add(Capability.TOOLS)
    if request.response_format and request.response_format.kind is AnswerFormat.JSON_SCHEMA:
        needs.add(Capability.JSON_SCHEMA)
    if _shows_image(request.messages):
        needs.add(Capability.VISION)
    return frozenset(needs)


def _shows_image(messages: Iterable[Message]) -> bool:
    for message in messages:
        for part in message.content:
            # Nearly all parts are text, and this runs for every request.
            if type(part) is TextPart:
                continue
            inner = part.content if isinstance(part, ToolResultPart) else (part,)
            if any(isinstance(one, ImagePart | FilePart) for one in inner):
                return True
    return False


def with_route_defaults(request: LLMRequest, route: RouteSpec | None) -> LLMRequest:
    """Returns the request with the route's defaults for fields that the caller did not set."""
    if route is None:
        return request
    defaults: dict[str, Any] = {}
    if request.temperature is None and route.temperature is not None:
        defaults["temperature"] = route.temperature
    if request.max_tokens is None and route.max_tokens is not None:
        defaults["max_tokens"] = route.max_tokens
    if route.system_prompt and request.system_prompt is None and not has_system_message(request):
        defaults["system_prompt"] = route.system_prompt
    return replace(request, **defaults) if defaults else request


def has_system_message(request: LLMRequest) -> bool:
    """Returns whether the messages contain a system prompt."""
    return any(message.role is Role.SYSTEM for message in request.messages)


def _resolve(table: RoutingTable, address: Address, default: Address) -> RouteSpec | str:
    name = address.model
    if name is None:
        use_case = address.use_case or default.use_case or ""
        return _route(table, use_case, address.tier, default.tier)
    if name in table.use_cases:
        return _route(table, name, address.tier, default.tier)
    use_case, _, tier = name.rpartition(":")
    if use_case in table.use_cases:
        return _route(table, use_case, tier or address.tier, default.tier)
    key = table.aliases.get(name, name)
    if key in table.models:
        return key
    if reason := inactive_reason(table, name):
        raise UnknownModel(reason, known=tuple(table.use_cases))
    raise UnknownModel(
        f"There is no model or use case {_shown(name)}. {_known_use_cases(table)} A model is "
        "addressed as provider/model_id or by its alias.",
        known=tuple(table.use_cases),
    )


def _route(
    table: RoutingTable, use_case: str, tier: str | None, default_tier: str | None
) -> RouteSpec:
    tiers = table.use_cases.get(use_case)
    if tiers is None:
        if use_case in table.inactive_use_cases:
            raise UnknownModel(_inactive_use_case(use_case), known=tuple(table.use_cases))
        raise UnknownModel(
            f"There is no use case {_shown(use_case)}. {_known_use_cases(table)}",
            known=tuple(table.use_cases),
        )
    wanted = tier or default_tier or ModelTier.STANDARD.value
    if wanted not in _TIERS:
        raise UnknownModel(
            f"There is no tier {_shown(wanted)}. Tiers: {', '.join(_TIERS)}.", known=_TIERS
        )
    if wanted in tiers:
        return table.routes[route_key(use_case, wanted)]
    if ModelTier.STANDARD.value in tiers:
        return table.routes[route_key(use_case, ModelTier.STANDARD.value)]
    standard = ModelTier.STANDARD.value
    lacks = f"has neither the tier {wanted} nor {standard}"
    if wanted == standard:
        lacks = f"lacks the tier {standard}"
    raise UnknownModel(
        f"The use case {use_case} {lacks}. Its tiers: {', '.join(tiers)}.",
        known=tiers,
    )


def inactive_reason(table: RoutingTable, name: str) -> str:
    """Returns a sentence that says why the model, alias or use case `name` is not in use; empty if
    the configuration does not contain it."""
    for use_case in (name, name.rpartition(":")[0]):
        if use_case in table.inactive_use_cases:
            return _inactive_use_case(use_case)
    key = table.inactive_aliases.get(name, name)
    reason = table.inactive_models.get(key)
    if reason is None:
        return ""
    subject = f"The model {key}" if key == name else f"The alias {name} names the model {key}. It"
    provider = key.partition("/")[0]
    match reason:
        case Inactive.MODEL:
            return f"{subject} is inactive."
        case Inactive.PROVIDER:
            return f"{subject} is not in use, because its provider {provider} is inactive."
        case Inactive.VENDOR:
            return f"{subject} is not in use, because its provider {provider} has no known vendor."
        case _:
            assert_never(reason)


def _inactive_use_case(use_case: str) -> str:
    return f"All routes of the use case {use_case} are inactive."


def _shown(name: str) -> str:
    """Quotes and shortens a caller's text for a message."""
    return repr(name if len(name) <= 80 else name[:80] + "…")


def _known_use_cases(table: RoutingTable) -> str:
    return f"Use cases: {', '.join(sorted(table.use_cases)) or 'none yet'}."


def _target(table: RoutingTable, key: str) -> Target:
    model = table.models[key]
    return Target(table.providers[model.provider], model)
