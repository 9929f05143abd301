"""The parts of a router."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from llm_routing.conf import Settings
from llm_routing.configuration.snapshot import SnapshotReader
from llm_routing.core.caching.single_flight import SingleFlightCache
from llm_routing.core.config import RouterConfig
from llm_routing.core.ports import (
    BreakerRegistry,
    Clock,
    CredentialStore,
    MetricsSink,
    Transport,
    UsageSink,
)
from llm_routing.health.credential_breakers import CredentialBreakers
from llm_routing.health.target_health import TargetHealth


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterParts:
    """The objects that a router works with. `factory` assembles them."""

    config: RouterConfig
    settings: Settings
    """The process's settings under those of `config`."""
    snapshots: SnapshotReader
    credentials: CredentialStore
    transport: Transport
    sink: UsageSink
    metrics: MetricsSink
    breakers: BreakerRegistry
    target_health: TargetHealth
    credential_breakers: CredentialBreakers
    cache: SingleFlightCache
    idempotency: SingleFlightCache
    cache_secret: bytes
    """Keys the digests under which answers are cached."""
    clock: Clock
    rng: Random
    on_close: Callable[[object], None]
    """Is called with the router itself."""
    records: Callable[[], Mapping[str, Any]]
    """Returns the state of the usage records, for the health status."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
