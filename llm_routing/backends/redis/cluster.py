"""A Redis Cluster, over redis-py's client, which knows nodes and slots and follows MOVED and ASK.

Slower than `connection`: each call takes a connection from a pool.
"""

import asyncio
from typing import Any

from llm_routing.system.redis_address import RedisAddress

from .connection import CALL_SECONDS, SLOW_TICKS, TICKS

REPAIR_SECONDS = 2.0
MAX_CONCURRENT = 64
_OF_CLUSTER = ("username", "password")


class ClusterConnection:
    """The connections to a cluster from one event loop. It is never lost: the client finds the
    current nodes, also after its caller has given up.

    All keys of one call must be in one slot.
    """

    is_lost = False

    def __init__(self, address: RedisAddress) -> None:
        from redis.asyncio.cluster import ClusterNode, RedisCluster
        from redis.asyncio.connection import SSLConnection
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        options: dict[str, Any] = {
            name: value
            for name, value in address.options.items()
            if name in _OF_CLUSTER or name.startswith("ssl_")
        }
        self._client = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            ssl=address.options.get("connection_class") is SSLConnection,
            socket_timeout=CALL_SECONDS,
            socket_connect_timeout=CALL_SECONDS,
            require_full_coverage=False,
            retry=Retry(NoBackoff(), 2),
            **options,
        )
        self._places = asyncio.Semaphore(MAX_CONCURRENT)
        self._calls: set[asyncio.Task[Any]] = set()
        self.is_closed = False
        self.slow_in_a_row = 0

    async def execute(self, *command: str | bytes | int) -> Any:
        """Returns the reply of Redis. Raises the errors of redis-py, and `TimeoutError` after
        `CALL_SECONDS`; the call then continues for a while, so that a client that is looking for
        the nodes finds them."""
        call = asyncio.get_running_loop().create_task(self._call(command))
        self._calls.add(call)
        call.add_done_callback(self._ended)
        # In ticks, as in `RedisConnection`: a stall of our own event loop counts as one.
        for tick in range(TICKS):
            await asyncio.wait({call}, timeout=CALL_SECONDS / TICKS)
            if call.done():
                self.slow_in_a_row = self.slow_in_a_row + 1 if tick >= SLOW_TICKS else 0
                return call.result()
        raise TimeoutError("The cluster is silent.")

    def drop(self, error: BaseException) -> None:
        """No-op: the client replaces connections itself."""

    async def aclose(self) -> None:
        """Cancels pending calls and closes the connections."""
        self.is_closed = True
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._client.aclose()

    async def _call(self, command: tuple[str | bytes | int, ...]) -> Any:
        async with asyncio.timeout(REPAIR_SECONDS), self._places:
            return await self._client.execute_command(*command)

    def _ended(self, call: "asyncio.Task[Any]") -> None:
        self._calls.discard(call)
        if not call.cancelled():
            # The caller may have stopped waiting.
            call.exception()
