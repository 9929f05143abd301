"""The cache in memory under concurrent threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

from llm_routing.backends.clock import SystemClock
from llm_routing.backends.memory import MemoryCache
from llm_routing.core.cached_answer import CachedAnswer


def test_concurrent_threads_keep_the_cache_within_its_limits() -> None:
    cache = MemoryCache(max_entries=50, max_bytes=40_000, clock=SystemClock())
    start = threading.Barrier(8)

    def work(number: int) -> None:
        rng = Random(number)
        start.wait()
        for _ in range(3000):
            key = f"k{rng.randrange(200)}"
            if rng.random() < 0.5:
                body = key.encode() * rng.randrange(1, 200)
                cache.put(key, CachedAnswer("p", "m", body), 60)
            else:
                found = cache.get(key, 60)
                assert found is None or found.body.startswith(key.encode())
            assert cache.size.entries <= 50
            assert cache.size.bytes <= 40_000

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert cache.size.evictions > 0
    for number in range(200):
        cache.put(f"k{number}", CachedAnswer("p", "m", b"x" * 50_000), 60)
    assert (cache.size.entries, cache.size.bytes) == (0, 0)
