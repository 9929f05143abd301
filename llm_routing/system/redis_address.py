"""Parses REDIS_URL: one server, a master behind Sentinels, or a cluster.

Opens no connection.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

SENTINEL_PORT = 26379
REDIS_PORT = 6379
FORMS = (
    "redis://HOST:PORT/NUMBER, rediss:// or unix://; redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/"
    "NUMBER; redis+cluster://HOST:PORT,HOST:PORT"
)


class RedisKind(StrEnum):
    """The way to find the server."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """`options` are redis-py's options for connections to the server; `hosts` the Sentinels, or the
    first nodes of a cluster; `sentinel_options` those for connections to Sentinels."""

    kind: RedisKind
    options: Mapping[str, Any] = field(repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)


def parse_redis_url(url: str) -> RedisAddress:
    """Reads REDIS_URL. Raises `ValueError`, whose text may quote the URL."""
    # Imported here, so that a process without Redis does not hold its client in memory.
    from redis.asyncio.connection import parse_url

    scheme, _, kind = url.partition("://")[0].partition("+")
    if not kind:
        return RedisAddress(RedisKind.SINGLE, {**parse_url(url)})
    if scheme not in ("redis", "rediss") or kind not in (RedisKind.SENTINEL, RedisKind.CLUSTER):
        raise ValueError("unknown scheme")
    parts = urlsplit(url)
    user, at, names = parts.netloc.rpartition("@")
    default_port = SENTINEL_PORT if kind == RedisKind.SENTINEL else REDIS_PORT
    hosts = tuple(_host(name, default_port) for name in names.split(","))
    path = [word for word in parts.path.split("/") if word]
    service = path.pop(0) if kind == RedisKind.SENTINEL and path else ""
    number = path.pop(0) if path else "0"
    if path or not number.isdecimal() or (kind == RedisKind.CLUSTER and int(number)):
        raise ValueError("a path is /SERVICE/NUMBER with Sentinels, and a cluster has none")
    if kind == RedisKind.SENTINEL and not service:
        raise ValueError("the name of the Sentinels' service is missing")
    query = parse_qsl(parts.query)
    of_server = urlencode([(k, v) for k, v in query if not k.startswith("sentinel_")])
    options = {**parse_url(f"{scheme}://{user}{at}{names.split(',')[0]}/{number}?{of_server}")}
    of_sentinels = {k.removeprefix("sentinel_"): v for k, v in query if k.startswith("sentinel_")}
    if of_sentinels.keys() - {"username", "password"}:
        raise ValueError("unknown option of Sentinels")
    return RedisAddress(RedisKind(kind), options, hosts, service, of_sentinels)


def _host(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or default_port
