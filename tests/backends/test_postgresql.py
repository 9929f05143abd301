"""A connection that gives up on a silent server only."""

import time

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from llm_routing.backends.postgresql import limited_connection
from tests.services import Services

pytestmark = pytest.mark.servers


def test_a_statement_above_the_limit_fails_and_the_pool_keeps_working(
    services: Services,
) -> None:
    impatient = limited_connection(0.5)
    with ConnectionPool(
        services.database_url, connection_class=impatient, min_size=0, max_size=1
    ) as pool:
        with (
            pytest.raises(psycopg.OperationalError, match=r"has not answered for 0\.5 s"),
            pool.connection() as connection,
        ):
            connection.execute("SELECT pg_sleep(30)")
        assert connection.closed
        impatient.limit = 60.0
        with pool.connection() as another:
            assert another.execute("SELECT 1").fetchone() == (1,)


def test_the_limit_counts_for_each_answer_separately(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_time, passed = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: real_time() + passed)
    with limited_connection(60.0).connect(services.database_url) as connection:
        for _ in range(3):
            connection.execute("SELECT pg_sleep(0.5)")
            passed += 50.0


def test_errors_of_the_server_are_raised_unchanged(services: Services) -> None:
    with limited_connection(60.0).connect(services.database_url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nothing_of_this_name")
        assert connection.execute("SELECT 1").fetchone() == (1,)
