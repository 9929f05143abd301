"""The objects of which a process has one.

Every object that lives as long as its process is listed here. Each is created in the module of its
class, because some are used before Django is set up. The background thread is in `background`, the
sweeper in `health.sweeper`, the event loop for synchronous code in `system.loops`; routers and
Redis clients are in `factory` and `composition`.
"""

from dataclasses import dataclass

from llm_routing.access.api_keys import ApiKeyCache, api_keys
from llm_routing.access.refused_keys import RefusedKeys, refused_keys
from llm_routing.configuration.snapshot import EMPTY_SNAPSHOT
from llm_routing.configuration.source import SnapshotSource, snapshot_source
from llm_routing.health.monitor import HealthMonitor, health_monitor
from llm_routing.health.sweeper import stop_sweeper
from llm_routing.system.forks import Stage, forks
from llm_routing.system.loops import stop_background_loop

from .admission import Admission, admission
from .background import stop_background
from .body_budget import BodyBudget, body_budget


@dataclass(frozen=True, slots=True)
class ProcessState:
    """The objects of which a process has one, in the order in which a request meets them."""

    admission: Admission
    """Limits the requests under way."""
    body_budget: BodyBudget
    """Limits the bytes of their bodies."""
    api_keys: ApiKeyCache
    """API keys that were checked against the database."""
    refused_keys: RefusedKeys
    """Counts and throttles keys that were refused."""
    snapshots: SnapshotSource
    """The routing configuration."""
    health_monitor: HealthMonitor
    """Circuit breakers, disabled credentials, and results of health checks."""

    def close(self) -> None:
        """Returns health and admission to their initial state, after the routers were closed."""
        self.health_monitor.forget()
        self.admission.reset()

    def reset(self) -> None:
        """Returns everything to its initial state, for tests. Stop the threads first."""
        self.close()
        self.body_budget.reset()
        self.api_keys.clear()
        self.refused_keys.reset()
        self.snapshots.current = EMPTY_SNAPSHOT

    def reset_after_fork(self) -> None:
        """Resets a forked child. It keeps the configuration and the known keys; requests, breakers
        and counts belong to the parent."""
        self.close()
        self.body_budget.reset()
        self.refused_keys.reset()
        self.snapshots.after_fork()


def stop_threads() -> None:
    """Stops the threads of the process, those that use others first."""
    stop_sweeper()
    stop_background()
    stop_background_loop()


process_state = ProcessState(
    admission=admission,
    body_budget=body_budget,
    api_keys=api_keys,
    refused_keys=refused_keys,
    snapshots=snapshot_source,
    health_monitor=health_monitor,
)

forks.add(Stage.STATE, process_state.reset_after_fork)
