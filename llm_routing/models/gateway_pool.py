"""PostgreSQL connections reserved for the gateway: key lookups and polls.

Django pools connections per database, so public pages, such as the admin's login, could use up all
of them. A thread that calls `use_gateway_pool` gets a small pool of its own. It relies on one
private attribute of Django, which a test checks.
"""

from typing import Any

from django.db import connections

from llm_routing.system.forks import Stage, forks

SIZE = 3
"""One for the background thread, one for key lookups, one spare."""

_ATTRIBUTE = "_connection_pools"
_pools: dict[str, Any] = {}
_inherited: list[object] = []


def use_gateway_pool() -> None:
    """Takes this thread's connections from the gateway's pools, if Django pools connections."""
    for connection in connections.all():
        options = connection.settings_dict["OPTIONS"]
        pool = options.get("pool")
        shared = getattr(connection, _ATTRIBUTE, None)
        if not pool or shared is None or shared is _pools:
            continue
        connection.close()
        sizes = {"min_size": 0, "max_size": SIZE}
        own = {**(pool if isinstance(pool, dict) else {}), **sizes}
        connection.settings_dict = {
            **connection.settings_dict,
            "OPTIONS": {**options, "pool": own},
        }
        setattr(connection, _ATTRIBUTE, _pools)


def _after_fork() -> None:
    # The connections belong to the parent process; the reference keeps them from being closed here.
    _inherited.append(dict(_pools))
    _pools.clear()


forks.add(Stage.DATABASE_POOLS, _after_fork)
