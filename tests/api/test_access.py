"""API keys: what is remembered, when the database is asked, and what holds while it is away."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.utils import timezone

from llm_routing.access import api_keys as access
from llm_routing.access.api_keys import ApiKeyCache
from llm_routing.core.errors import AccessUnavailable, Unauthenticated
from llm_routing.core.types import Caller
from llm_routing.models import ApiKey

WRONG = "sk-llm-" + "w" * 43


class Database:
    """The database as the key ring sees it: counted, and away or slow on request."""

    def __init__(self, query: Callable[[Sequence[str]], dict[str, ApiKey]]) -> None:
        self._query = query
        self.asked: list[int] = []
        self.is_away = False
        self.seconds = 0.0

    def __call__(self, digests: Sequence[str]) -> dict[str, ApiKey]:
        self.asked.append(len(digests))
        time.sleep(self.seconds)
        if self.is_away:
            raise OperationalError("password=hunter2")
        return self._query(digests)


@pytest.fixture
def database(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    database = Database(access._query)
    monkeypatch.setattr(access, "_query", database)
    yield database
    access.api_keys.clear()


@pytest.fixture
def key(database: Database) -> str:
    return ApiKey.objects.issue("tests", tenant="acme")[1]


def ring() -> ApiKeyCache:
    """The process's ring, which is the one that changes invalidate."""
    access.api_keys.clear()
    return access.api_keys


async def revoke() -> None:
    await ApiKey.objects.aupdate(is_active=False)


async def refused(keys: ApiKeyCache, clear_text: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await keys.authenticate(clear_text)
    return str(caught.value)


async def test_a_warm_key_costs_no_query(database: Database, key: str) -> None:
    keys = ring()
    for _ in range(3):
        assert await keys.authenticate(key) == Caller("acme", "tests")
    assert database.asked == [1]


async def test_a_revoked_key_is_refused_from_the_next_request_on(
    database: Database, key: str
) -> None:
    keys = ring()
    await keys.authenticate(key)
    await revoke()
    await refused(keys, key)
    await ApiKey.objects.aupdate(is_active=True)
    await keys.authenticate(key)


async def test_a_key_is_refused_when_its_day_has_come(database: Database) -> None:
    soon = timezone.now() + timedelta(seconds=0.3)
    _, key = await sync_to_async(ApiKey.objects.issue)("short", "acme", soon)
    keys = ring()
    await keys.authenticate(key)
    await asyncio.sleep(0.35)
    assert "expired" in await refused(keys, key)
    assert database.asked == [1]


async def test_what_cannot_be_a_key_is_worth_no_query(database: Database) -> None:
    keys = ring()
    for text in ("", "sk-llm", "sk-openai-x", "sk-llm-" + "x" * 500, "sk-llm-ä", "sk-llm-\ud800"):
        await refused(keys, text)
    assert database.asked == []


async def test_a_wrong_key_is_asked_for_once(database: Database) -> None:
    keys = ring()
    for _ in range(5):
        await refused(keys, WRONG)
    assert database.asked == [1]


async def test_a_flood_of_wrong_keys_is_a_handful_of_queries(database: Database, key: str) -> None:
    keys = ring()
    database.seconds = 0.02
    wrong = [keys.authenticate(f"sk-llm-{number:043}") for number in range(400)]
    *refusals, caller = await asyncio.gather(*wrong, keys.authenticate(key), return_exceptions=True)
    assert all(isinstance(each, Unauthenticated) for each in refusals)
    assert caller == Caller("acme", "tests")
    assert len(database.asked) <= 3
    assert len(keys._refused) == 400


async def test_more_unknown_keys_than_may_wait_are_put_off(
    database: Database, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ring()
    await keys.authenticate(key)
    keys.invalidate()
    monkeypatch.setattr(access, "MAX_WAITING", 10)
    database.seconds = 0.05
    wrong = [keys.authenticate(f"sk-llm-{number:043}") for number in range(30)]
    *answers, caller = await asyncio.gather(*wrong, keys.authenticate(key), return_exceptions=True)
    assert {type(each) for each in answers} == {Unauthenticated, AccessUnavailable}
    assert caller == Caller("acme", "tests")


async def test_a_new_key_works_at_once_though_it_was_refused_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ring()
    monkeypatch.setattr("llm_routing.models.access.secrets.token_urlsafe", lambda _: "w" * 43)
    await refused(keys, WRONG)
    _, key = await sync_to_async(ApiKey.objects.issue)("late")
    assert key == WRONG
    assert (await keys.authenticate(key)).key_name == "late"


async def test_while_the_database_is_away_known_keys_hold_and_others_wait(
    database: Database, key: str
) -> None:
    now = 0.0
    keys = ApiKeyCache(monotonic=lambda: now)
    await keys.authenticate(key)
    database.is_away = True
    keys.invalidate()
    assert await keys.authenticate(key) == Caller("acme", "tests")
    with pytest.raises(AccessUnavailable) as caught:
        await keys.authenticate(WRONG)
    assert caught.value.retry_after
    assert "hunter2" not in str(caught.value)
    for _ in range(5):
        await keys.authenticate(key)
    assert len(database.asked) == 2
    database.is_away = False
    await revoke()
    await keys.authenticate(key)
    now += access.PAUSE_SECONDS
    await refused(keys, key)


async def test_a_database_that_hangs_holds_nobody_up_for_long(
    database: Database, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ring()
    await keys.authenticate(key)
    monkeypatch.setattr(access, "LOOKUP_SECONDS", 0.05)
    database.seconds = 0.5
    keys.invalidate()
    assert await keys.authenticate(key) == Caller("acme", "tests")
    with pytest.raises(AccessUnavailable):
        await keys.authenticate(WRONG)
    assert len(database.asked) == 2
    await asyncio.sleep(0.6)


async def test_who_leaves_while_the_database_is_asked_takes_nobody_along(
    database: Database, key: str
) -> None:
    keys = ring()
    database.seconds = 0.1
    first, second = (asyncio.create_task(keys.authenticate(key)) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    assert await second == Caller("acme", "tests")
    assert database.asked == [1]


async def test_what_changes_during_a_query_is_noticed(database: Database, key: str) -> None:
    keys = ring()
    database.seconds = 0.1
    asking = asyncio.create_task(keys.authenticate(key))
    await asyncio.sleep(0.02)
    keys.invalidate()
    await asking
    await keys.authenticate(key)
    assert database.asked == [1, 1]


async def test_a_key_that_is_being_asked_for_is_not_asked_for_again(
    database: Database, key: str
) -> None:
    keys = ring()
    database.seconds = 0.2
    asking = []
    for _ in range(5):
        asking.append(asyncio.create_task(keys.authenticate(key)))
        await asyncio.sleep(0.02)
    assert set(await asyncio.gather(*asking)) == {Caller("acme", "tests")}
    assert database.asked == [1]


async def test_a_key_that_was_revoked_during_a_query_is_asked_for_again(
    database: Database, key: str
) -> None:
    keys = ring()
    database.seconds = 0.2
    first = asyncio.create_task(keys.authenticate(key))
    await asyncio.sleep(0.05)
    keys.invalidate()
    second = asyncio.create_task(keys.authenticate(key))
    await asyncio.gather(first, second)
    assert database.asked == [1, 1]


async def test_memory_is_bounded_and_keeps_what_was_used_last(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MAX_KNOWN", 2)
    monkeypatch.setattr(access, "MAX_REFUSED", 2)
    keys = ring()
    issued = [(await sync_to_async(ApiKey.objects.issue)(name))[1] for name in ("a", "b", "c")]
    for key in (issued[0], issued[1], issued[0], issued[2]):
        await keys.authenticate(key)
    for number in range(5):
        await refused(keys, f"sk-llm-{number:043}")
    before = len(database.asked)
    await keys.authenticate(issued[0])
    await keys.authenticate(issued[2])
    assert len(database.asked) == before
    await keys.authenticate(issued[1])
    assert len(database.asked) == before + 1
    assert len(keys._known) == len(keys._refused) == 2


def test_every_event_loop_has_its_own_queries(database: Database, key: str) -> None:
    keys: Any = ApiKeyCache()
    for _ in range(2):
        assert asyncio.run(keys.authenticate(key)) == Caller("acme", "tests")
        keys.invalidate()
    assert database.asked == [1, 1]
