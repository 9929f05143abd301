"""A process of its own that asks the same thing many times at once, as one worker of several.

Says `ready`, waits for a line, asks, and prints what came: `{"hit": 249, "miss": 1}`, or with an
idempotency key `{"replayed": 249, "asked": 1}`.
"""

import asyncio
import json
import sys
from collections import Counter
from typing import Any


async def main(requests: int, prompt: str, is_stream: bool, key: str | None) -> None:
    """Asks a static router, which needs no database."""
    from llm_routing import close_routers, get_llm_router
    from llm_routing.backends.redis import answers, connection

    # On a busy machine a call to Redis, or the renewal of a lease, comes later than in production.
    connection.CALL_SECONDS = 5.0
    answers.LEASE_SECONDS = 15.0

    router = await get_llm_router(dynamic=False)
    print("ready", flush=True)
    sys.stdin.readline()

    options: dict[str, Any] = {"temperature_override": 0, "idempotency_key": key}

    async def one() -> str:
        if not is_stream:
            answer = await router.complete(prompt, **options)
        else:
            events = [event async for event in router.stream(prompt, **options)]
            answer = events[-1].response  # type: ignore[union-attr]  # the end
        routing = answer.routing
        if key is None:
            return routing.cache.value
        return "replayed" if routing.replayed else "asked"

    states = await asyncio.gather(*(one() for _ in range(requests)), return_exceptions=True)
    print(json.dumps(Counter(map(str, states))), flush=True)
    await close_routers()


if __name__ == "__main__":
    import django

    django.setup()
    key = sys.argv[4] if len(sys.argv) > 4 else None
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3] == "stream", key))
