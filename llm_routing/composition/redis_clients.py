"""The Redis clients of the process, one for each URL, shared by everything that uses Redis."""

from collections.abc import Sequence
from random import Random

from llm_routing.backends.redis.guard import GuardedRedis, RedisCalls
from llm_routing.conf import Settings
from llm_routing.core.ports import Clock


class RedisClients:
    """Creates clients on first use and closes them together."""

    def __init__(self) -> None:
        self._by_url: dict[str, GuardedRedis] = {}

    def get(self, settings: Settings, clock: Clock) -> GuardedRedis | None:
        """Returns the client of the settings' Redis; None if they have none."""
        if settings.redis_url is None:
            return None
        url = settings.redis_url.get_secret_value()
        client = self._by_url.get(url)
        if client is None:
            rng = Random()  # noqa: S311  # it spreads calls and keeps no secret
            client = self._by_url[url] = GuardedRedis(url, clock=clock, rng=rng)
        return client

    @property
    def calls(self) -> Sequence[RedisCalls]:
        """The counts of each client."""
        return [client.calls for client in list(self._by_url.values())]

    async def aclose(self) -> None:
        """Closes the clients and forgets them."""
        for client in list(self._by_url.values()):
            await client.aclose()
        self._by_url.clear()

    def detach(self) -> Sequence[GuardedRedis]:
        """Forgets the clients without closing them and returns them, for a forked child."""
        clients = list(self._by_url.values())
        self._by_url.clear()
        return clients


redis_clients = RedisClients()
