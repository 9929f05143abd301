"""Finds the master by asking Redis Sentinels.

https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from llm_routing.system.redis_address import RedisAddress

SENTINEL_SECONDS = 0.5


async def find_master(address: RedisAddress) -> tuple[str, int]:
    """Returns host and port of the master, by the first Sentinel that knows it. All are asked at
    once, since some may be down. Raises `redis.exceptions.RedisError`."""
    from redis.asyncio.connection import SSLConnection

    is_tls = address.options.get("connection_class") is SSLConnection
    options: dict[str, Any] = {
        **address.sentinel_options,
        **{name: value for name, value in address.options.items() if name.startswith("ssl_")},
        "ssl": is_tls,
    }
    asked = [
        asyncio.ensure_future(_ask(host, port, address.service, options))
        for host, port in address.hosts
    ]
    try:
        for answer in asyncio.as_completed(asked):
            try:
                return await answer
            except Exception as error:  # noqa: BLE001  # another Sentinel may know it
                last = error
        raise last
    finally:
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _ask(host: str, port: int, service: str, options: Mapping[str, Any]) -> tuple[str, int]:
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel
    from redis.backoff import NoBackoff

    limits = {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS}
    once = Retry(NoBackoff(), 0)
    given = {**limits, "retry": once, **options}
    manager = Sentinel([(host, port)], sentinel_kwargs=given)  # type: ignore[no-untyped-call]
    try:
        found, number = await manager.discover_master(service)
        return str(found), int(number)
    finally:
        for client in manager.sentinels:
            await client.aclose()
