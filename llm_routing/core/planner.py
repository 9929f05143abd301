"""From an address to a plan: which targets to try, and in which order.

Pure: the table, the request and the randomness come in. Trying them is the executor's.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

from .content import AnswerFormat, ImagePart, Part, Role, ToolResultPart
from .errors import InvalidRequest, NoTargetAvailable, UnknownModel
from .routing_table import RouteSpec, RoutingTable, Target, TargetSpec, route_key
from .types import LLMRequest, ModelTier

CHAT = "chat"
EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class Address:
    """What a caller named: a model's address, or a use case, with or without a tier."""

    model: str | None = None
    use_case: str | None = None
    tier: str | None = None


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """The targets to try, first to last; `route` is None where a model was named itself."""

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
    """The plan for `address`, or for `default` where it names nothing.

    Targets that cannot do `operation` are left out; those that lack one of `needs` come after
    those that have them all, and among equals the `unhealthy` ones (`provider/model_id`) come
    last: they are tried where no other answers. Raises `UnknownModel` (the message lists what
    exists), `InvalidRequest` where a named model cannot do the operation, `NoTargetAvailable`.
    """
    found = _resolve(table, address, default)
    if isinstance(found, str):
        target = _target(table, found)
        if not _can(target, operation):
            raise InvalidRequest(f"The model {found} does not offer {operation}.", field="model")
        return RoutePlan((target,))
    present = _in_order(table, found.targets, rng)
    able = [target for target in present if _can(target, operation)]
    if not able:
        name = route_key(found.use_case, found.tier)
        if present:
            raise InvalidRequest(
                f"No target of the route {name} offers {operation}.", field="model"
            )
        raise NoTargetAvailable(f"The route {name} has no active target.")
    able.sort(
        key=lambda target: (
            bool(needs - target.model.capabilities),
            target.model.key in unhealthy,
        )
    )
    return RoutePlan(tuple(able), found)


def needs_of(request: LLMRequest) -> frozenset[str]:
    """The capabilities that a target should have to answer `request`."""
    needs = set()
    if request.tools:
        needs.add("tools")
    if request.response_format and request.response_format.kind is AnswerFormat.JSON_SCHEMA:
        needs.add("json_schema")
    if any(_shows(part) for message in request.messages for part in message.content):
        needs.add("vision")
    return frozenset(needs)


def _shows(part: Part) -> bool:
    """Whether there is an image in it."""
    if isinstance(part, ToolResultPart):
        return any(isinstance(inner, ImagePart) for inner in part.content)
    return isinstance(part, ImagePart)


def with_route_defaults(request: LLMRequest, route: RouteSpec | None) -> LLMRequest:
    """The request with what the route says where the caller said nothing."""
    if route is None:
        return request
    system_prompt = request.system_prompt
    if system_prompt is None and route.system_prompt and not has_system_message(request):
        system_prompt = route.system_prompt
    return replace(
        request,
        system_prompt=system_prompt,
        temperature=route.temperature if request.temperature is None else request.temperature,
        max_tokens=route.max_tokens if request.max_tokens is None else request.max_tokens,
    )


def has_system_message(request: LLMRequest) -> bool:
    """Whether the caller sent a system prompt among the messages."""
    return any(message.role is Role.SYSTEM for message in request.messages)


def _resolve(table: RoutingTable, address: Address, default: Address) -> RouteSpec | str:
    name = address.model
    if name is None:
        use_case = address.use_case or default.use_case or ""
        return _route(table, use_case, address.tier, default.tier)
    use_case, _, tier = name.partition(":")
    if use_case in table.use_cases:
        return _route(table, use_case, tier or address.tier, default.tier)
    key = table.aliases.get(name, name)
    if key in table.models:
        return key
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
        raise UnknownModel(
            f"There is no use case {_shown(use_case)}. {_known_use_cases(table)}",
            known=tuple(table.use_cases),
        )
    wanted = tier or default_tier or ModelTier.STANDARD.value
    if wanted not in tuple(ModelTier):
        names = tuple(known.value for known in ModelTier)
        raise UnknownModel(
            f"There is no tier {_shown(wanted)}. Tiers: {', '.join(names)}.", known=names
        )
    if wanted in tiers:
        return table.routes[route_key(use_case, wanted)]
    if ModelTier.STANDARD.value in tiers:
        return table.routes[route_key(use_case, ModelTier.STANDARD.value)]
    raise UnknownModel(
        f"The use case {use_case} has neither the tier {wanted} nor {ModelTier.STANDARD.value}. "
        f"Its tiers: {', '.join(tiers)}.",
        known=tiers,
    )


def _shown(name: str) -> str:
    """A caller's word, fit to be repeated in a message."""
    return repr(name if len(name) <= 80 else name[:80] + "…")


def _known_use_cases(table: RoutingTable) -> str:
    return f"Use cases: {', '.join(sorted(table.use_cases)) or 'none yet'}."


def _target(table: RoutingTable, key: str) -> Target:
    model = table.models[key]
    return Target(table.providers[model.provider], model)


def _can(target: Target, operation: str) -> bool:
    """A model that says nothing of its capabilities is believed to have them."""
    return not target.model.capabilities or operation in target.model.capabilities


def _in_order(table: RoutingTable, specs: Iterable[TargetSpec], rng: Random) -> Sequence[Target]:
    """By position, within one by the provider's priority, and among equals drawn by weight
    without replacement (each gets the exponential of its weight as its arrival time: Efraimidis
    and Spirakis, 2006)."""
    present = [(spec, _target(table, spec.model)) for spec in specs if spec.model in table.models]
    places = {(spec.position, target.provider.priority) for spec, target in present}
    is_drawn = len(places) < len(present)
    present.sort(
        key=lambda found: (
            found[0].position,
            found[1].provider.priority,
            rng.expovariate(found[0].weight) if is_drawn else 0.0,
        )
    )
    return [target for _, target in present]
