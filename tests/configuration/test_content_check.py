"""Changes that bypass the models, and so move no version, are found by their content."""

from collections.abc import Callable

import pytest
from django.db import connection, models
from django.db.models.signals import post_delete, post_save, pre_delete
from pytest_django import DjangoAssertNumQueries

from llm_routing.configuration import content_check
from llm_routing.configuration.content_check import INTERVAL, MODELS, ContentCheck
from llm_routing.models import (
    ApiKey,
    ConfigurationVersion,
    ModelConfig,
    Provider,
    RouteTarget,
    UseCaseRoute,
)
from llm_routing.models.version import ConfigurationModel
from tests import rows

pytestmark = pytest.mark.django_db

Area = ConfigurationVersion.Area
AREAS = (Area.ROUTING, Area.ACCESS)


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def version(area: str) -> tuple[int, str]:
    return ConfigurationVersion.objects.version_and_stamp(area)


def execute(sql: str) -> None:
    """Runs SQL as a program that knows nothing of Django would."""
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.fixture
def target() -> RouteTarget:
    """One row of every model."""
    ApiKey.objects.issue(name="batch", tenant="default")
    return RouteTarget.objects.create(route=rows.route(), model=rows.model())


class Checked:
    """A content check that reads the version of its area before each run, as a poll does."""

    def __init__(self, area: Area, monotonic: Callable[[], float]) -> None:
        self._area = area
        self._check = ContentCheck(area, monotonic)

    def run(self) -> bool:
        return self._check.run(version(self._area))


def checked(area: Area) -> tuple[Checked, Clock]:
    """Returns a check that has seen the rows as they are now."""
    clock = Clock()
    check = Checked(area, clock)
    assert check.run() is False
    return check, clock


RAW_CHANGES: dict[str, tuple[Area, str]] = {
    "delete a target": (Area.ROUTING, f"DELETE FROM {RouteTarget._meta.db_table}"),
    "turn off a model": (Area.ROUTING, f"UPDATE {ModelConfig._meta.db_table} SET is_active = %s"),
    "move a provider": (
        Area.ROUTING,
        f"UPDATE {Provider._meta.db_table} SET base_url = 'https://example.com/v1'",
    ),
    "change a route": (Area.ROUTING, f"UPDATE {UseCaseRoute._meta.db_table} SET max_tokens = 7"),
    "delete a key": (Area.ACCESS, f"DELETE FROM {ApiKey._meta.db_table}"),
    "revoke a key": (Area.ACCESS, f"UPDATE {ApiKey._meta.db_table} SET is_active = %s"),
}


@pytest.mark.parametrize("change", RAW_CHANGES)
def test_sql_from_elsewhere_moves_the_version_of_its_area_once(
    change: str, target: RouteTarget
) -> None:
    area, sql = RAW_CHANGES[change]
    others = [check for each in AREAS if each != area for check in [checked(each)]]
    here, there = checked(area), checked(area)
    before = version(area)
    execute(sql.replace("%s", "false" if connection.vendor != "sqlite" else "0"))
    assert version(area) == before
    for check, clock in (here, there, *others):
        clock.now += INTERVAL
        check.run()
    assert version(area)[0] == before[0] + 1, "one of two processes moves it"
    assert version(area)[1] != before[1]
    for check, clock in (here, there, *others):
        clock.now += INTERVAL
        assert check.run() is False
    assert version(area)[0] == before[0] + 1


def test_a_change_through_the_models_is_not_counted_twice(target: RouteTarget) -> None:
    check, clock = checked(Area.ROUTING)
    ModelConfig.objects.update(display_name="New")
    moved = version("routing")
    for _ in range(3):
        clock.now += INTERVAL
        assert check.run() is False
    assert version("routing") == moved


def test_sql_right_after_a_change_through_the_models_is_found(target: RouteTarget) -> None:
    check, clock = checked(Area.ROUTING)
    ModelConfig.objects.update(display_name="New")
    assert check.run() is False
    moved = version("routing")
    execute(RAW_CHANGES["delete a target"][1])
    clock.now += INTERVAL
    assert check.run() is True
    assert version("routing")[0] == moved[0] + 1


def test_between_two_checks_only_the_version_is_read(
    target: RouteTarget, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    check, clock = checked(Area.ROUTING)
    clock.now += INTERVAL / 2
    with django_assert_num_queries(1):
        assert check.run() is False


def test_checks_take_at_most_a_hundredth_of_the_time(target: RouteTarget) -> None:
    """A check of large tables that takes 2 s is repeated after 200 s."""
    clock = Clock()
    check = Checked(Area.ROUTING, lambda: clock.now)
    times = iter((0.0, 2.0))
    slow = Checked(Area.ROUTING, lambda: next(times, clock.now))
    assert check.run() is slow.run() is False
    execute(RAW_CHANGES["delete a target"][1])
    clock.now = 2.0 + 199.0
    assert slow.run() is False
    clock.now = 2.0 + 200.0
    assert slow.run() is True


def test_a_large_table_is_read_in_chunks(
    target: RouteTarget,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    """A million keys are neither held in memory nor read in one step between two polls."""
    monkeypatch.setattr(content_check, "CHUNK_ROWS", 2)
    for number in range(6):
        ApiKey.objects.issue(name=f"key {number}", tenant="default")
    clock = Clock()
    check = Checked(Area.ACCESS, clock)

    def run() -> bool:
        with django_assert_max_num_queries(4):  # the version, a chunk, the end of the table
            return check.run()

    assert [run() for _ in range(4)] == [False] * 4
    execute(f"UPDATE {ApiKey._meta.db_table} SET name = 'other' WHERE name = 'key 5'")
    before = version(Area.ACCESS)
    clock.now += INTERVAL
    assert [check.run() for _ in range(4)] == [False, False, False, True]
    assert version(Area.ACCESS)[0] == before[0] + 1


@pytest.mark.parametrize("deletes", ["the row", "a queryset"])
@pytest.mark.parametrize("model", [Provider, UseCaseRoute, ApiKey])
def test_deletions_move_the_version_without_signals(
    model: type[models.Model], deletes: str, target: RouteTarget
) -> None:
    """A cascade of the database (Django's DB_CASCADE) sends no signals for its rows."""
    area = str(model.area)  # type: ignore[attr-defined]  # of ConfigurationModel
    RouteTarget.objects.all().delete()
    before = version(area)[0]
    signals = (post_delete, pre_delete, post_save)
    receivers = [signal.receivers for signal in signals]
    try:
        for signal in signals:
            signal.receivers = []
            signal.sender_receivers_cache.clear()
        if deletes == "the row":
            model._default_manager.get().delete()
        else:
            model._default_manager.all().delete()
    finally:
        for signal, own in zip(signals, receivers, strict=True):
            signal.receivers = own
            signal.sender_receivers_cache.clear()
    assert version(area)[0] == before + 1


def test_every_model_of_the_configuration_is_checked() -> None:
    assert set(MODELS) == set(ConfigurationModel.__subclasses__())
