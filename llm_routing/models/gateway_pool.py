"""PostgreSQL connections reserved for the gateway: key lookups and polls.

Django pools connections per database, so public pages, such as the admin's login, could use up all
of them. A thread that calls `use_gateway_pool` gets a small pool of its own. It relies on a private
attribute of Django: outside the tested releases, threads of the gateway share Django's pool.
"""

import logging
from collections.abc import Sequence
from typing import Any

from django.db import connections

from llm_routing.system.forks import Stage, forks
from llm_routing.system.releases import Release, untested_release

logger = logging.getLogger(__name__)

SIZE = 3
"""One for the background thread, one for key lookups, one spare."""

OLDEST, NEWEST = Release(5, 2), Release(6, 1)
"""The tested releases of Django."""

_ATTRIBUTE = "_connection_pools"
_pools: dict[str, Any] = {}
_inherited: list[object] = []
_warned: set[str] = set()


def problems(wrapper: object) -> Sequence[str]:
    """Returns why a database wrapper of the installed Django cannot have a pool of ours; nothing if
    it can."""
    untested = untested_release("django", OLDEST, NEWEST)
    found = [untested] if untested else []
    if not isinstance(getattr(wrapper, _ATTRIBUTE, None), dict):
        found.append(f"{type(wrapper).__module__}.{type(wrapper).__name__} has no {_ATTRIBUTE}")
    return found


def use_gateway_pool() -> None:
    """Takes this thread's connections from the gateway's pools, if Django pools connections."""
    for connection in connections.all():
        options = connection.settings_dict["OPTIONS"]
        pool = options.get("pool")
        if not pool or getattr(connection, _ATTRIBUTE, None) is _pools:
            continue
        if found := problems(connection):
            _warn(connection.alias, found)
            continue
        connection.close()
        sizes = {"min_size": 0, "max_size": SIZE}
        own = {**(pool if isinstance(pool, dict) else {}), **sizes}
        connection.settings_dict = {
            **connection.settings_dict,
            "OPTIONS": {**options, "pool": own},
        }
        setattr(connection, _ATTRIBUTE, _pools)


def _warn(alias: str, found: Sequence[str]) -> None:
    if alias not in _warned:
        _warned.add(alias)
        logger.warning(
            "Threads of the gateway share the connection pool of the database %s: %s.",
            alias,
            "; ".join(found),
        )


def _after_fork() -> None:
    # The connections belong to the parent process; kept, so that nothing closes them here.
    _inherited.append(dict(_pools))
    _pools.clear()


forks.add(Stage.DATABASE_POOLS, _after_fork)
