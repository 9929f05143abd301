"""Fork handlers of all objects that a fork affects, in one list.

Threads do not survive a fork: a lock that another thread holds would stay locked in the child.
Connections, IDs and nonces that parent and child both continue to use would mix or repeat. Nothing
else in this package calls `os.register_at_fork`.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from threading import Lock

from llm_routing.core import ids, timers

logger = logging.getLogger(__name__)


class Stage(IntEnum):
    """All objects that a fork affects, in order. Locks are acquired in this order before the fork,
    so a lock comes before those that are acquired while it is held."""

    ROUTERS = auto()
    """`factory`: the child builds routers and connections of its own."""
    SWEEPER = auto()
    """`health.sweeper`: the child starts a thread of its own."""
    BACKGROUND = auto()
    """`process.background`: the child starts a thread of its own; ledger segments and metrics stay
    with the parent. Held so that no database driver is in the middle of a query."""
    EVENT_LOOP = auto()
    """`system.loops`: the child starts a thread of its own."""
    STATE = auto()
    """`process.state`: the child keeps configuration and known keys; requests, breakers and counts
    stay the parent's."""
    DATABASE_POOLS = auto()
    """`models.gateway_pool`: the child opens connections of its own."""
    KEY_LOOKUPS = auto()
    """`access.api_keys`: the child starts a thread of its own."""
    SEALING = auto()
    """`crypto.in_transit`: the child takes another salt, so that no nonce repeats."""
    CORE = auto()
    """`core`: the child draws ids of its own and looks up the running event loop again."""


@dataclass(frozen=True, slots=True)
class _Handler:
    reset: Callable[[], None]
    locks: Sequence[Lock]


class ForkHandlers:
    """Holds locks across a fork and resets the child."""

    def __init__(self) -> None:
        self._handlers: dict[Stage, _Handler] = {}

    def add(self, stage: Stage, reset: Callable[[], None], *, locks: Sequence[Lock] = ()) -> None:
        """Has `reset` called in every child, before the `locks` that are held across the fork are
        released. Another handler for the same stage replaces this one."""
        self._handlers[stage] = _Handler(reset, locks)

    @property
    def stages(self) -> Sequence[Stage]:
        """The stages that have a handler, in order."""
        return sorted(self._handlers)

    def before(self) -> None:
        """Acquires the locks, in order."""
        for lock in self._locks():
            lock.acquire()

    def after_in_parent(self) -> None:
        """Releases the locks, the last one first."""
        for lock in reversed(self._locks()):
            lock.release()

    def after_in_child(self) -> None:
        """Resets the child, then releases its copies of the locks."""
        for stage in self.stages:
            try:
                self._handlers[stage].reset()
            except Exception:
                logger.exception("A forked process could not reset %s.", stage.name)
        self.after_in_parent()

    def _locks(self) -> Sequence[Lock]:
        return [lock for stage in self.stages for lock in self._handlers[stage].locks]


def _reset_core() -> None:
    ids.forget()
    timers.forget_running_loop()


forks = ForkHandlers()
forks.add(Stage.CORE, _reset_core)
os.register_at_fork(
    before=forks.before,
    after_in_parent=forks.after_in_parent,
    after_in_child=forks.after_in_child,
)
