"""Settings and services of a test run, and the servers that tests talk to.

TEST_SERVICES=servers runs the tests on PostgreSQL and Redis, mariadb on MariaDB, anything else (or
nothing) on SQLite; without Redis state is in memory. With `-p no:django` Django cannot even be
imported: so core and formats run.
Nothing here may import Django at the top.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import pytest

if TYPE_CHECKING:
    from pytest_django.plugin import DjangoDbBlocker

    from .servers import Gateway, Server
    from .services import Services

# A busy machine makes examples slow, which says nothing about the code.
hypothesis.settings.register_profile(
    "no clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("no clock")

_session = ExitStack()
_services: "Services | None" = None


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    # The first hook in which a conftest may act, before any other conftest imports a model.
    if pluginmanager.is_blocked("django"):
        sys.modules["django"] = None  # type: ignore[assignment]  # documented: import fails
    else:
        set_up_django()


def set_up_django() -> None:
    """Choose the services, make the environment, then load the settings."""
    global _services
    from . import servers, services

    for name in list(os.environ):
        if name.startswith(("DJANGO_", "LLM_", "DATABASE_", "REDIS_")) or name.endswith("_API_KEY"):
            del os.environ[name]
    directory = Path(_session.enter_context(tempfile.TemporaryDirectory(prefix="llm-routing-")))
    if (kind := os.environ.get("TEST_SERVICES")) in services.KINDS and not is_controller():
        try:
            _services = _session.enter_context(services.running(kind))
        except services.CannotStart as error:
            raise pytest.UsageError(str(error)) from None
    os.environ |= servers.environment(
        directory,
        _services.database_url if _services else f"sqlite:///{directory / 'unused.sqlite3'}",
        (_services.redis_url or None) if _services else None,
    )
    import django

    django.setup()
    if is_controller():
        # Else pytest-django loads the settings in the workers before they have their services.
        del os.environ["DJANGO_SETTINGS_MODULE"]


def is_controller() -> bool:
    """Whether this process only distributes the tests (pytest-xdist), each worker of which has
    services of its own."""
    distributes = any(argument.startswith(("-n", "--numprocesses")) for argument in sys.argv[1:])
    return distributes and "PYTEST_XDIST_WORKER" not in os.environ


def pytest_unconfigure() -> None:
    _session.close()


def pytest_report_header() -> str:
    return f"services: {os.environ.get('TEST_SERVICES', 'none')}"


USES_SERVICES = {"db", "transactional_db", "services", "redis_url", "gateway", "live_gateway"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        if names & USES_SERVICES or any(map(item.get_closest_marker, ("django_db", "servers"))):
            item.add_marker("services")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("servers") and (_services is None or not _services.redis_url):
        pytest.skip("needs TEST_SERVICES=servers")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On SQLite the test database is a file, so that a server in another process can read it."""
    from django.conf import settings

    default = settings.DATABASES["default"]
    if default["ENGINE"] == "django.db.backends.sqlite3":
        directory = tmp_path_factory.mktemp("database")
        default.setdefault("TEST", {})["NAME"] = str(directory / "test.sqlite3")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: "DjangoDbBlocker") -> Iterator[None]:
    """Before the test database is dropped, every session that a thread still holds is ended: the
    ORM's asynchronous methods work in a thread of asgiref's, which outlives the tests."""
    yield
    from django.db import connection

    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture(scope="session")
def services() -> "Services | None":
    """PostgreSQL and Redis, or None where the tests run without them."""
    return _services


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The URL of a real Redis; a test that asks for it is skipped where there is none."""
    if _services is None or not _services.redis_url:
        pytest.skip("needs TEST_SERVICES=servers")
    return _services.redis_url


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    """The sandbox over a real socket, one for the whole run."""
    from .servers import sandbox_server

    with sandbox_server(tmp_path_factory.mktemp("sandbox")) as server:
        yield server


@pytest.fixture(autouse=True)
def closed_breakers() -> None:
    """Breakers that share their state through Redis outlive the gateways of earlier tests."""
    forget_breakers(os.environ.get("REDIS_URL"))


@pytest.fixture(autouse=True)
def patient_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call to the Redis of the run may take longer than a request would wait: on a busy machine
    it does, and would be a miss."""
    if _services is not None and _services.redis_url:
        for module in ("connection", "cluster"):
            monkeypatch.setattr(f"llm_routing.backends.redis.{module}.CALL_SECONDS", 2.0)


@pytest.fixture
def put_forward(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Puts the clock of this process's routers forward by some seconds. Event loops, servers and
    other processes keep theirs."""
    from llm_routing.backends.clock import SystemClock

    passed = 0.0

    def put(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    monkeypatch.setattr(SystemClock, "monotonic", staticmethod(lambda: time.monotonic() + passed))
    return put


@pytest.fixture(scope="session")
def gateway(sandbox: "Server", tmp_path_factory: pytest.TempPathFactory) -> Iterator["Gateway"]:
    """The project as `make run` has it, every route ending on the sandbox, one for the whole run.

    It has a database of its own, apart from pytest's; a test changes nothing in it, or changes it
    back (`gateway.manage`).
    """
    from .servers import Gateway, environment, gateway_server, manage

    directory = tmp_path_factory.mktemp("gateway")
    if _services is None:
        database_url, redis_url = f"sqlite:///{directory / 'db.sqlite3'}", None
    else:
        database_url = create_database(_services.database_url, "gateway")
        redis_url = with_path(_services.redis_url, "/1") if _services.redis_url else None
    env = environment(directory, database_url, redis_url, LLM_SANDBOX_URL=sandbox.url)
    manage(env, "migrate", "--verbosity=0")
    manage(env, "setup_llm_configuration", "--verbosity=0")
    key = json.loads(manage(env, "create_llm_key", "tests", "--json"))["key"]
    with gateway_server(env, directory / "gateway.log") as server:
        yield Gateway(server, key, env)


@pytest.fixture
def live_gateway(sandbox: "Server", transactional_db: None, tmp_path: Path) -> Iterator["Gateway"]:
    """A gateway on pytest's own database: what a test changes through the ORM, it serves."""
    from django.db import connection

    from .servers import Gateway, environment, gateway_server, manage

    name = str(connection.settings_dict["NAME"])
    if _services is None:
        database_url, redis_url = f"sqlite:///{name}", None
    else:
        database_url = with_path(_services.database_url, f"/{name}")
        redis_url = with_path(_services.redis_url, "/2") if _services.redis_url else None
    forget_breakers(redis_url)
    env = environment(tmp_path, database_url, redis_url, LLM_SANDBOX_URL=sandbox.url)
    manage(env, "setup_llm_configuration", "--verbosity=0")
    key = json.loads(manage(env, "create_llm_key", "tests", "--json"))["key"]
    with gateway_server(env, tmp_path / "gateway.log") as server:
        yield Gateway(server, key, env)


def forget_breakers(redis_url: str | None) -> None:
    """Closes the breakers that gateways of earlier tests have left open in Redis."""
    if redis_url:
        from redis import Redis

        with Redis.from_url(redis_url) as client:
            for name in client.scan_iter("llm_routing:breaker:*"):
                client.delete(name)


def create_database(maintenance_url: str, name: str) -> str:
    """A new, empty database beside `maintenance_url`; its URL."""
    parts = urlsplit(maintenance_url)
    if parts.scheme == "mysql":
        import pymysql

        host, port, user = str(parts.hostname), parts.port or 3306, str(parts.username)
        with pymysql.connect(host=host, port=port, user=user) as server, server.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}`")
        return with_path(maintenance_url, f"/{name}")
    import psycopg
    from psycopg.sql import SQL, Identifier

    with psycopg.connect(maintenance_url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    return with_path(maintenance_url, f"/{name}")


def with_path(url: str, path: str) -> str:
    """`url` with another path: another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=path))
