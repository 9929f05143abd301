"""Builds the caches of answers: the response cache, and answers under idempotency keys."""

from dataclasses import dataclass

from llm_routing.backends.files import FileCache
from llm_routing.backends.memory import MemoryCache
from llm_routing.backends.redis.answers import RedisCache
from llm_routing.conf import Settings
from llm_routing.core.caching.single_flight import SingleFlightCache
from llm_routing.core.ports import Clock
from llm_routing.crypto.at_rest import Purpose, encryption_keys
from llm_routing.crypto.in_transit import Sealing

from .redis_clients import redis_clients

MAX_REPLAYS_IN_MEMORY = 1000
MAX_REPLAY_BYTES_IN_MEMORY = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AnswerCaches:
    """The response cache, and the cache of answers under idempotency keys."""

    responses: SingleFlightCache
    replays: SingleFlightCache


def build_answer_caches(settings: Settings, clock: Clock) -> AnswerCaches:
    """Returns caches in memory with Redis behind them, if it is configured. Without Redis, answers
    under idempotency keys are in files that the workers of this machine share, and each worker has
    a response cache of its own. Raises `ImproperlyConfigured` for unusable encryption keys."""
    response_cipher = Sealing(encryption_keys(Purpose.CACHED_ANSWERS))
    replay_cipher = Sealing(encryption_keys(Purpose.IDEMPOTENT_ANSWERS))
    shared_responses: RedisCache | None
    shared_replays: RedisCache | FileCache
    redis = redis_clients.get(settings, clock)
    if redis is not None:
        shared_responses = RedisCache(redis, cipher=response_cipher, clock=clock)
        shared_replays = RedisCache(redis, cipher=replay_cipher, clock=clock, kind="replay")
    else:
        shared_responses = None
        directory = settings.state_dir / "idempotency"
        shared_replays = FileCache(directory, cipher=replay_cipher, clock=clock)
    responses = MemoryCache(
        max_entries=settings.cache_max_size,
        max_bytes=settings.cache_memory_limit_mb * 1024 * 1024,
        clock=clock,
    )
    replays = MemoryCache(
        max_entries=MAX_REPLAYS_IN_MEMORY, max_bytes=MAX_REPLAY_BYTES_IN_MEMORY, clock=clock
    )
    return AnswerCaches(
        SingleFlightCache(responses, shared_responses, clock),
        SingleFlightCache(replays, shared_replays, clock),
    )
