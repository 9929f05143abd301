"""The rows to write, independent of the source, and the settings that have no equivalent.

A reader fills a `Draft`; the writer sees only the `Plan`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from pydantic import SecretStr

from llm_routing.core.capabilities import Capability

from .text import shown


@dataclass(frozen=True, slots=True)
class PlannedProvider:
    """A provider. An empty `base_url` or `api_key_env` means the vendor's own. `secret` is a key
    that the file contains in clear text."""

    name: str
    vendor: str
    base_url: str = ""
    api_key_env: str = ""
    secret: SecretStr | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model. None: the file does not say. Prices are in USD per million tokens."""

    provider: str
    model_id: str
    alias: str = ""
    capabilities: frozenset[Capability] | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    input_price: Decimal | None = None
    output_price: Decimal | None = None
    cached_input_price: Decimal | None = None
    cache_write_price: Decimal | None = None
    cache_write_1h_price: Decimal | None = None

    @property
    def key(self) -> str:
        """`provider/model_id`."""
        return f"{self.provider}/{self.model_id}"


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """A model of a route, by its key."""

    model: str
    position: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """A use case in a tier. `deadline` and `cache_ttl` are in seconds."""

    use_case: str
    tier: str
    targets: tuple[PlannedTarget, ...]
    system_prompt: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    cache_ttl: int | None = None
    deadline: float | None = None
    is_active: bool = True

    @property
    def name(self) -> str:
        """`use_case:tier`."""
        return f"{self.use_case}:{self.tier}"


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark for the operator on the setting at `where` in the file."""

    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`unmapped` are settings without an equivalent; `notes` are settings mapped with a
    difference."""

    source: str
    providers: tuple[PlannedProvider, ...]
    models: tuple[PlannedModel, ...]
    routes: tuple[PlannedRoute, ...]
    unmapped: tuple[Remark, ...]
    notes: tuple[Remark, ...]


class Draft:
    """Builds a plan. The first definition of a provider, model or route wins."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.providers: dict[str, PlannedProvider] = {}
        self.models: dict[str, PlannedModel] = {}
        self.routes: dict[str, PlannedRoute] = {}
        self._unmapped: dict[Remark, None] = {}
        self._notes: dict[Remark, None] = {}

    def skip(self, where: str, reason: str) -> None:
        """Notes that the setting at `where` has no equivalent."""
        self._unmapped[Remark(shown(where, 200), reason)] = None

    def note(self, where: str, text: str) -> None:
        """Notes that the setting at `where` is mapped with a difference."""
        self._notes[Remark(shown(where, 200), text)] = None

    def add_model(self, model: PlannedModel) -> None:
        """Adds a model unless it exists."""
        self.models.setdefault(model.key, model)

    def add_route(self, where: str, route: PlannedRoute) -> None:
        """Adds a route; reports a second one with its name."""
        if route.name in self.routes:
            self.skip(where, f"the route {shown(route.name)} is there already")
        else:
            self.routes[route.name] = route

    def plan(self, source: str) -> Plan:
        """Returns the plan, without providers that have no model."""
        used = {model.provider for model in self.models.values()}
        return Plan(
            source=source,
            providers=tuple(row for name, row in self.providers.items() if name in used),
            models=tuple(self.models.values()),
            routes=tuple(self.routes.values()),
            unmapped=tuple(self._unmapped),
            notes=tuple(self._notes),
        )
