"""PostgreSQL connections that only the gateway's own work may use: key look-ups and polls.

Django pools connections by database, so pages that anybody can ask for, such as the admin's login,
could use up all of them. A thread that calls `use_gateway_pool` has a small pool of its own. It
relies on one private attribute of Django's, which a test holds it to.
"""

from typing import Any

from django.db import connections

from llm_routing.system.forks import Stage, forks

SIZE = 3
"""One for the background thread, one for key look-ups, one to spare."""

_ATTRIBUTE = "_connection_pools"
_pools: dict[str, Any] = {}
_inherited: list[object] = []


def use_gateway_pool() -> None:
    """Has this thread's connections come from the gateway's pools, where Django pools at all."""
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
    # The parent's connections are the parent's; kept, so that nothing here closes them.
    _inherited.append(dict(_pools))
    _pools.clear()


forks.add(Stage.DATABASE_POOLS, _after_fork)
