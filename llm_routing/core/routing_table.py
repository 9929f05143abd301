"""The configuration that the router works from: immutable, complete and without secrets.

It does not depend on the source: database, Redis, file or built-in mappings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from pydantic import TypeAdapter

from .pricing import Price
from .quirks import ANY, ModelQuirk, Quirks
from .types import TargetKey


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider: its address, wire format and limits.

    `format` names a wire format. Timeouts are in seconds; None means the default in settings.
    `api_key_env` names the environment variable with the key; the key itself is never here.
    """

    name: str
    vendor: str
    format: str
    base_url: str
    api_key_env: str = ""
    priority: int = 100
    connect_timeout: float | None = None
    first_token_timeout: float | None = None
    idle_timeout: float | None = None
    total_timeout: float | None = None
    max_connections: int | None = None
    quirks: Quirks = ANY


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model of a provider; `key` is its address.

    `capabilities` holds values of `Capability`, `quirks` values of `ModelQuirk`; both may hold
    unknown values from a newer release.
    """

    provider: str
    model_id: str
    alias: str = ""
    display_name: str = ""
    capabilities: frozenset[str] = frozenset()
    context_window: int | None = None
    max_output_tokens: int | None = None
    price: Price | None = None
    quirks: frozenset[str] = frozenset()

    def offers(self, capability: str) -> bool:
        """Returns whether the model has a capability. A model that lists none is assumed to have
        it."""
        return not self.capabilities or capability in self.capabilities

    @property
    def refuses_sampling(self) -> bool:
        """Whether temperature and top_p must be left out of requests."""
        return ModelQuirk.NO_SAMPLING in self.quirks

    @property
    def key(self) -> str:
        """`provider/model_id`."""
        return f"{self.provider}/{self.model_id}"


@dataclass(frozen=True, slots=True)
class Target:
    """A model at its provider: the destination of one attempt. `key` identifies it across processes
    and configurations."""

    provider: ProviderSpec
    model: ModelSpec
    key: TargetKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (self.provider.name, self.model.model_id))


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """One model of a route: `position` is its fallback level, `weight` (from 1) its share in it."""

    model: str
    position: int = 0
    weight: int = 1


class StreamRecovery(StrEnum):
    """The reaction to a streamed answer that breaks after the caller has received content.

    ERROR: the stream ends with an error. CONTINUE: the next target that can continue a partial
    answer takes over. BUFFER: nothing is sent before the answer is complete.
    """

    ERROR = "error"
    CONTINUE = "continue"
    BUFFER = "buffer"


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """The route of a use case in a tier. Durations are in seconds; its timeouts override the
    provider's.

    `is_hedged`: if the first target is slower than usual, the next one is called too.
    `probes_when_all_open`: if the breakers of all targets are open, the target whose probe is due
    first is called nevertheless. `allowed_fields`: fields that callers may use although they can
    change the model or the price (`formats.restrictions`).
    """

    use_case: str
    tier: str
    targets: tuple[TargetSpec, ...]
    system_prompt: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    cache_ttl: int | None = None
    deadline: float | None = None
    connect_timeout: float | None = None
    first_token_timeout: float | None = None
    idle_timeout: float | None = None
    stream_recovery: StreamRecovery = StreamRecovery.ERROR
    is_hedged: bool = False
    probes_when_all_open: bool = False
    allowed_fields: frozenset[str] = frozenset()


class Inactive(StrEnum):
    """The reason why a configured model is not in use."""

    MODEL = "model"
    PROVIDER = "provider"
    VENDOR = "vendor"


@dataclass(frozen=True)
class RoutingTable:
    """Everything active, in one immutable value.

    `version` increases with every change; `stamp` is different for each. Providers are keyed by
    name, models by `provider/model_id`, routes by `use_case:tier`. Of inactive rows it holds only
    the addresses, so that an error can name the reason.
    """

    version: int
    providers: Mapping[str, ProviderSpec] = field(default_factory=dict)
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    routes: Mapping[str, RouteSpec] = field(default_factory=dict)
    stamp: str = ""
    inactive_models: Mapping[str, Inactive] = field(default_factory=dict)
    inactive_aliases: Mapping[str, str] = field(default_factory=dict)
    inactive_use_cases: frozenset[str] = frozenset()

    @cached_property
    def aliases(self) -> Mapping[str, str]:
        """Alias → `provider/model_id`."""
        return {model.alias: key for key, model in self.models.items() if model.alias}

    @cached_property
    def use_cases(self) -> Mapping[str, tuple[str, ...]]:
        """Use case → its tiers, in the order of the routes."""
        tiers: dict[str, list[str]] = {}
        for route in self.routes.values():
            tiers.setdefault(route.use_case, []).append(route.tier)
        return {use_case: tuple(names) for use_case, names in tiers.items()}

    def index(self) -> None:
        """Builds the lookup tables in advance, so that no request has to."""
        _ = self.aliases, self.use_cases

    @cached_property
    def plans(self) -> dict[tuple[str, str, str, frozenset[str]], object]:
        """The planner's cache of compiled routes, by address, default tier, operation and required
        capabilities."""
        return {}


_ADAPTER = TypeAdapter(RoutingTable)


def table_to_json(table: RoutingTable) -> bytes:
    """The table as JSON, for a shared cache or a file."""
    return _ADAPTER.dump_json(table)


def table_from_json(data: bytes | str) -> RoutingTable:
    """Returns the table that `table_to_json` wrote. Raises `ValueError` if the text is malformed.
    Unknown fields are ignored, so that neighbouring releases can share a cache."""
    return _ADAPTER.validate_json(data)


def route_key(use_case: str, tier: str) -> str:
    """The key of a route in `RoutingTable.routes`."""
    return f"{use_case}:{tier}"


__all__ = [
    "Inactive",
    "ModelSpec",
    "Price",
    "ProviderSpec",
    "RouteSpec",
    "RoutingTable",
    "StreamRecovery",
    "Target",
    "TargetSpec",
    "route_key",
    "table_from_json",
    "table_to_json",
]
