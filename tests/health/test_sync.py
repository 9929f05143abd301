"""Processes exchange health through the database, and a process at rest asks it for little."""

import pytest
from pytest_django import DjangoAssertNumQueries

from llm_routing.configuration.source import SnapshotSource
from llm_routing.health import monitor as module
from llm_routing.health.monitor import HealthMonitor, reset_breakers
from llm_routing.models import BreakerReset, ConfigurationVersion, HealthCheck
from llm_routing.models.databases import DatabaseNow

pytestmark = pytest.mark.django_db

Area = ConfigurationVersion.Area
KEY = ("first", "alpha")


class Worker(HealthMonitor):
    """Notes which breakers it is told to close."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: list[tuple[str, str]] = []

    def reset_breaker(self, provider: str, model: str) -> None:
        self.closed.append((provider, model))


@pytest.fixture
def worker() -> Worker:
    """A process that has loaded all there is."""
    worker = Worker()
    worker.sync(health_version())
    return worker


def health_version() -> tuple[int, str]:
    return ConfigurationVersion.objects.version_and_stamp(Area.HEALTH)


def check() -> HealthCheck:
    return HealthCheck(provider="first", model="alpha", is_healthy=False, checked_at=DatabaseNow())


def test_a_poll_without_news_is_one_query(
    worker: Worker, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    snapshots = SnapshotSource()
    snapshots.refresh()
    with django_assert_num_queries(1):
        versions = ConfigurationVersion.objects.versions_and_stamps()
        snapshots.refresh(versions.get(Area.ROUTING, (0, "")))
        worker.sync(versions.get(Area.HEALTH, (0, "")))


def test_a_reset_reaches_a_process_with_the_next_version(worker: Worker) -> None:
    reset_breakers([KEY], "operator")
    worker.sync(health_version())
    assert worker.closed == [KEY]
    worker.sync(health_version())
    assert worker.closed == [KEY], "once"


def test_a_failed_load_is_repeated(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    reset_breakers([KEY], "operator")
    with monkeypatch.context() as broken:
        broken.setattr(BreakerReset, "objects", None)
        with pytest.raises(AttributeError):
            worker.sync(health_version())
    worker.sync(health_version())
    assert worker.closed == [KEY]


def test_rows_that_a_project_writes_itself_are_loaded_a_little_later(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    check().save()
    BreakerReset.objects.create(provider="first", model="alpha", ordered_at=DatabaseNow())
    worker.sync(health_version())
    assert not worker.closed
    assert not worker.target_health.unhealthy
    monkeypatch.setattr(module, "RELOAD_SECONDS", 0.0)
    worker.sync(health_version())
    assert worker.closed == [KEY]


def test_a_change_of_health_is_no_change_of_the_configuration(worker: Worker) -> None:
    before = ConfigurationVersion.objects.current(Area.ROUTING)
    reset_breakers([KEY], "operator")
    assert ConfigurationVersion.objects.current(Area.ROUTING) == before
    assert health_version()[0] > 0
