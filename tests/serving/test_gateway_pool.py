"""Requests for public pages cannot take the database connections that the gateway needs."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection, connections

from llm_routing.models import ApiKey, gateway_pool
from llm_routing.process.background import ensure_background

from .exchange import CHAT_PATH, Exchange, chat

WAIT = 90


@contextlib.contextmanager
def all_connections_taken() -> Iterator[None]:
    """Other threads hold every connection of Django's pool, and more wait for one."""
    size = connection.settings_dict["OPTIONS"]["pool"]["max_size"]
    has_taken = threading.Semaphore(0)
    is_over = threading.Event()

    def hold() -> None:
        try:
            # The thread that runs the tests may hold one too.
            with contextlib.suppress(OperationalError):
                connection.ensure_connection()
            has_taken.release()
            is_over.wait(WAIT * 4)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=hold) for _ in range(size)]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            assert has_taken.acquire(timeout=WAIT)
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def two_keys() -> dict[str, str]:
    keys = {name: ApiKey.objects.issue(name)[1] for name in ("new", "revoked")}
    ApiKey.objects.filter(name="revoked").update(is_active=False)
    connections.close_all()
    return keys


@pytest.fixture
async def used_up(key: str) -> AsyncIterator[dict[str, str]]:
    """Two keys that this process has not seen, the second one revoked."""
    keys = await sync_to_async(two_keys)()
    with all_connections_taken():
        yield keys


@pytest.mark.servers
async def test_keys_are_looked_up_while_others_have_taken_every_connection(
    used_up: dict[str, str],
) -> None:
    assert (await Exchange(CHAT_PATH, chat("Hi"), used_up["new"]).run()).status == 200
    assert (await Exchange(CHAT_PATH, chat("Hi"), used_up["revoked"]).run()).status == 401


@pytest.mark.servers
async def test_a_change_of_keys_is_noticed_while_others_have_taken_every_connection(
    used_up: dict[str, str],
) -> None:
    background = ensure_background()
    looked = threading.Event()
    look = background.read_versions

    def watched() -> None:
        look()
        looked.set()

    background.read_versions = watched  # type: ignore[method-assign]  # one look is enough
    assert await asyncio.to_thread(looked.wait, WAIT)


def own_pool() -> Any:
    """The pool of this thread's connection."""
    wrapper: Any = connections["default"]
    return wrapper.pool


@pytest.mark.servers
def test_threads_of_the_gateway_share_a_pool_of_their_own(transactional_db: None) -> None:
    found: list[Any] = []

    def work() -> None:
        try:
            gateway_pool.use_gateway_pool()
            found.append(own_pool())
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        finally:
            connections.close_all()

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found[0] is found[1]
    assert found[0] is not own_pool()
    assert found[0].max_size == gateway_pool.SIZE


def test_the_installed_django_has_what_a_pool_needs() -> None:
    """Fails if a release of Django renames the attribute."""
    base = pytest.importorskip("django.db.backends.postgresql.base")
    assert gateway_pool.problems(base.DatabaseWrapper({"OPTIONS": {}})) == []


def test_a_wrapper_without_the_attribute_is_named() -> None:
    assert gateway_pool.problems(object()) == ["builtins.object has no _connection_pools"]


def test_with_an_untested_django_the_gateway_shares_djangos_pool(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrapper:
        alias = "untested"
        settings_dict: dict[str, Any] = {"OPTIONS": {"pool": True}}  # noqa: RUF012
        _connection_pools: dict[str, Any] = {}  # noqa: RUF012

    wrapper = Wrapper()
    monkeypatch.setattr(gateway_pool, "connections", type("", (), {"all": lambda: [wrapper]}))
    monkeypatch.setattr("django.__version__", "7.0")
    gateway_pool.use_gateway_pool()
    assert wrapper.settings_dict == {"OPTIONS": {"pool": True}}
    assert "django 7.0 is not between 5.2 and 6.1" in caplog.text
