"""API keys: caching, database queries, and operation without the database."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.utils import timezone

from llm_routing.access import api_keys as access
from llm_routing.access import key_lookups
from llm_routing.access.api_keys import ApiKeyCache, CacheStatus
from llm_routing.core.errors import AccessUnavailable, Unauthenticated
from llm_routing.core.types import Caller
from llm_routing.models import ApiKey

UNKNOWN = "sk-llm-" + "w" * 43
PATIENCE = 90.0

Find = Callable[[Sequence[str]], Mapping[str, ApiKey]]


class Database:
    """The database as the cache sees it: `queries` has the number of keys of each query. While
    `answers` is not set, queries wait."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self.queries: list[int] = []
        self.is_unavailable = False
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, digests: Sequence[str]) -> Mapping[str, ApiKey]:
        self.queries.append(len(digests))
        assert self.answers.wait(PATIENCE)
        if self.is_unavailable:
            raise OperationalError("password=hunter2")
        return self._find(digests)

    async def until_queried(self, count: int) -> None:
        """Waits for a number of queries."""
        async with asyncio.timeout(PATIENCE):
            while len(self.queries) < count:
                await asyncio.sleep(0.001)


@pytest.fixture
def database(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    database = Database(key_lookups.find_usable_keys)
    monkeypatch.setattr(key_lookups, "find_usable_keys", database)
    yield database
    database.answers.set()
    access.api_keys.clear()


@pytest.fixture
def key(database: Database) -> str:
    return ApiKey.objects.issue("tests", tenant="acme")[1]


@pytest.fixture
def cache() -> ApiKeyCache:
    """The process's cache, because that is the one that changes of keys invalidate."""
    access.api_keys.clear()
    return access.api_keys


async def revoke() -> None:
    await ApiKey.objects.aupdate(is_active=False)


async def error_text(cache: ApiKeyCache, clear_text: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await cache.authenticate(clear_text)
    return str(caught.value)


async def started(cache: ApiKeyCache, key: str) -> "asyncio.Task[Caller]":
    """Begins to authenticate, and lets the task run until it waits."""
    task = asyncio.create_task(cache.authenticate(key))
    for _ in range(5):
        await asyncio.sleep(0)
    return task


async def test_a_cached_key_costs_no_query(
    database: Database, key: str, cache: ApiKeyCache
) -> None:
    for _ in range(3):
        assert await cache.authenticate(key) == Caller("acme", "tests")
    assert database.queries == [1]


async def test_a_revoked_key_is_refused_from_the_next_request_on(
    database: Database, key: str, cache: ApiKeyCache
) -> None:
    await cache.authenticate(key)
    await revoke()
    await error_text(cache, key)
    await ApiKey.objects.aupdate(is_active=True)
    await cache.authenticate(key)


async def test_a_key_is_refused_once_it_has_expired(
    database: Database, cache: ApiKeyCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    _, key = await sync_to_async(ApiKey.objects.issue)("short", "acme", now + timedelta(hours=1))
    await cache.authenticate(key)
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(hours=2))
    await error_text(cache, key)
    assert database.queries == [1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("sk-llm", "does not begin with sk-llm-"),
        ("sk-openai-x", "does not begin with sk-llm-"),
        ("\u00e4", "does not begin with sk-llm-"),
        ("sk-llm-" + "x" * 500, "too long or has characters"),
        ("sk-llm-\u00e4", "too long or has characters"),
        ("sk-llm-\ud800", "too long or has characters"),
        ("sk-llm-\n", "too long or has characters"),
    ],
)
async def test_a_malformed_key_needs_no_query_and_gets_a_specific_error(
    database: Database, cache: ApiKeyCache, text: str, problem: str
) -> None:
    assert problem in await error_text(cache, text)
    assert database.queries == []


async def test_unknown_revoked_and_expired_keys_get_the_same_error(
    database: Database, cache: ApiKeyCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error does not tell an attacker which keys exist."""
    now = timezone.now()
    _, revoked = await sync_to_async(ApiKey.objects.issue)("revoked")
    await revoke()
    until = now + timedelta(hours=1)
    _, expired = await sync_to_async(ApiKey.objects.issue)("expired", "acme", until)
    await cache.authenticate(expired)
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(hours=2))
    texts = [await error_text(cache, key) for key in (UNKNOWN, revoked, expired)]
    assert set(texts) == {"The API key is unknown, revoked or expired."}


async def test_an_unknown_key_is_queried_once(database: Database, cache: ApiKeyCache) -> None:
    for _ in range(5):
        await error_text(cache, UNKNOWN)
    assert database.queries == [1]


async def test_a_flood_of_unknown_keys_takes_a_few_queries(
    database: Database, key: str, cache: ApiKeyCache
) -> None:
    database.answers.clear()
    tasks = [await started(cache, f"sk-llm-{number:043}") for number in range(400)]
    own = await started(cache, key)
    database.answers.set()
    *errors, caller = await asyncio.gather(*tasks, own, return_exceptions=True)
    assert all(isinstance(error, Unauthenticated) for error in errors)
    assert caller == Caller("acme", "tests")
    assert database.queries == [1, 400]
    assert cache.status == CacheStatus(known=1, refused=400)


async def test_unknown_keys_beyond_the_limit_are_throttled(
    database: Database, key: str, cache: ApiKeyCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cache.authenticate(key)
    cache.invalidate()
    monkeypatch.setattr(key_lookups, "MAX_WAITING", 10)
    database.answers.clear()
    tasks = [await started(cache, f"sk-llm-{number:043}") for number in range(30)]
    own = await started(cache, key)
    database.answers.set()
    *errors, caller = await asyncio.gather(*tasks, own, return_exceptions=True)
    assert {type(error) for error in errors} == {Unauthenticated, AccessUnavailable}
    assert caller == Caller("acme", "tests")


async def test_a_new_key_works_at_once_even_if_it_was_refused_before(
    database: Database, cache: ApiKeyCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_routing.models.access.secrets.token_urlsafe", lambda _: "w" * 43)
    await error_text(cache, UNKNOWN)
    _, key = await sync_to_async(ApiKey.objects.issue)("late")
    assert key == UNKNOWN
    assert (await cache.authenticate(key)).key_name == "late"


async def test_without_the_database_cached_keys_work_and_others_get_retry_after(
    database: Database, key: str
) -> None:
    now = 0.0
    cache = ApiKeyCache(monotonic=lambda: now)
    await cache.authenticate(key)
    database.is_unavailable = True
    cache.invalidate()
    assert await cache.authenticate(key) == Caller("acme", "tests")
    with pytest.raises(AccessUnavailable) as caught:
        await cache.authenticate(UNKNOWN)
    assert caught.value.retry_after
    assert "hunter2" not in str(caught.value)
    for _ in range(5):
        await cache.authenticate(key)
    assert len(database.queries) == 2
    database.is_unavailable = False
    await revoke()
    await cache.authenticate(key)
    now += access.PAUSE_SECONDS
    await error_text(cache, key)


async def test_a_database_that_does_not_respond_delays_only_one_lookup(
    database: Database, key: str, cache: ApiKeyCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cache.authenticate(key)
    monkeypatch.setattr(key_lookups, "LOOKUP_SECONDS", 0.05)
    database.answers.clear()
    cache.invalidate()
    assert await cache.authenticate(key) == Caller("acme", "tests")
    with pytest.raises(AccessUnavailable):
        await cache.authenticate(UNKNOWN)
    assert len(database.queries) == 2


async def test_a_cancelled_request_does_not_cancel_the_lookup_of_others(
    database: Database, key: str, cache: ApiKeyCache
) -> None:
    database.answers.clear()
    first, second = await started(cache, key), await started(cache, key)
    await database.until_queried(1)
    first.cancel()
    database.answers.set()
    assert await second == Caller("acme", "tests")
    assert database.queries == [1]


async def test_a_change_during_a_query_is_noticed(
    database: Database, key: str, cache: ApiKeyCache
) -> None:
    database.answers.clear()
    task = await started(cache, key)
    await database.until_queried(1)
    cache.invalidate()
    database.answers.set()
    await task
    await cache.authenticate(key)
    assert database.queries == [1, 1]


async def test_requests_with_one_key_share_the_running_query(
    database: Database, key: str, cache: ApiKeyCache
) -> None:
    database.answers.clear()
    tasks = [await started(cache, key)]
    await database.until_queried(1)
    tasks += [await started(cache, key) for _ in range(4)]
    database.answers.set()
    assert set(await asyncio.gather(*tasks)) == {Caller("acme", "tests")}
    assert database.queries == [1]


async def test_a_request_after_a_change_does_not_share_the_running_query(
    database: Database, key: str, cache: ApiKeyCache
) -> None:
    database.answers.clear()
    first = await started(cache, key)
    await database.until_queried(1)
    cache.invalidate()
    second = await started(cache, key)
    database.answers.set()
    await asyncio.gather(first, second)
    assert database.queries == [1, 1]


async def test_the_cache_is_bounded_and_keeps_the_keys_used_last(
    database: Database, cache: ApiKeyCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MAX_KNOWN", 2)
    monkeypatch.setattr(access, "MAX_REFUSED", 2)
    issued = [(await sync_to_async(ApiKey.objects.issue)(name))[1] for name in ("a", "b", "c")]
    for key in (issued[0], issued[1], issued[0], issued[2]):
        await cache.authenticate(key)
    for number in range(5):
        await error_text(cache, f"sk-llm-{number:043}")
    before = len(database.queries)
    await cache.authenticate(issued[0])
    await cache.authenticate(issued[2])
    assert len(database.queries) == before
    await cache.authenticate(issued[1])
    assert len(database.queries) == before + 1
    assert cache.status == CacheStatus(known=2, refused=2)


def test_every_event_loop_has_its_own_queries(database: Database, key: str) -> None:
    cache = ApiKeyCache()
    for _ in range(2):
        assert asyncio.run(cache.authenticate(key)) == Caller("acme", "tests")
        cache.invalidate()
    assert database.queries == [1, 1]
