"""The configuration in memory: its content, and its preservation while the database is
unavailable."""

import json
from dataclasses import replace
from unittest import mock

import pytest
from django.core.cache import caches
from django.db import OperationalError

from llm_routing.conf import get_settings
from llm_routing.configuration.built_in import built_in_snapshot
from llm_routing.configuration.kept_tables import cache_table, table_cache_key
from llm_routing.configuration.snapshot import Snapshot, SnapshotOrigin
from llm_routing.configuration.source import SnapshotSource
from llm_routing.core.quirks import Quirks
from llm_routing.core.routing_table import Inactive, route_key, table_to_json
from llm_routing.models import (
    ConfigurationVersion,
    ModelConfig,
    Provider,
    RouteTarget,
    UseCaseRoute,
)
from llm_routing.vendors import VENDORS
from tests.router.conftest import Configuration

pytestmark = pytest.mark.usefixtures("clean_process")


def fresh() -> SnapshotSource:
    source = SnapshotSource()
    source.refresh()
    return source


def away() -> "mock._patch[mock.MagicMock]":
    return mock.patch.object(
        ConfigurationVersion.objects,
        "version_and_stamp",
        side_effect=OperationalError("password=hunter2"),
    )


def test_the_table_has_only_active_rows(configuration: Configuration) -> None:
    table = fresh().current.table
    assert set(table.models) == {"first/alpha", "second/beta", "second/vectors"}
    configuration.first.is_active = False
    configuration.first.save()
    table = fresh().current.table
    assert set(table.providers) == {"second"}
    (target,) = table.routes[route_key("debugging", "standard")].targets
    assert target.model == "second/beta"


def test_the_sandbox_never_answers_where_a_real_provider_could_have(
    configuration: Configuration,
) -> None:
    real = Provider.objects.create(name="real", vendor="openai")
    model = ModelConfig.objects.create(provider=real, model_id="gpt")
    RouteTarget.objects.create(route=configuration.route, model=model, position=5)
    (target,) = fresh().current.table.routes[route_key("debugging", "standard")].targets
    assert target.model == "real/gpt"
    real.is_active = False
    real.save()
    assert len(fresh().current.table.routes[route_key("debugging", "standard")].targets) == 2


def test_a_refresh_without_a_change_reads_one_row(
    configuration: Configuration, django_assert_num_queries
) -> None:
    source = fresh()
    with django_assert_num_queries(1):
        assert source.refresh() is False
    UseCaseRoute.objects.update(temperature=0.5)
    assert source.refresh() is True


def test_compiling_costs_the_same_for_many_rows_as_for_few(
    configuration: Configuration, django_assert_max_num_queries
) -> None:
    for number in range(20):
        ModelConfig.objects.create(provider=configuration.first, model_id=f"m{number}")
        UseCaseRoute.objects.create(use_case=f"case_{number}", tier="standard")
    with django_assert_max_num_queries(8):
        source = fresh()
    assert len(source.current.table.routes) == 21


def test_the_last_good_configuration_outlives_the_database(
    configuration: Configuration, caplog: pytest.LogCaptureFixture
) -> None:
    source = fresh()
    table = source.current.table
    with away():
        assert source.refresh() is False
        assert source.current.table is table
        started_without = SnapshotSource()
        started_without.refresh()
    assert started_without.current.origin is SnapshotOrigin.FILE
    assert started_without.current.table == table
    assert "hunter2" not in caplog.text
    assert started_without.refresh() is True
    assert [started_without.current.origin] == [SnapshotOrigin.DATABASE]


def state(source: SnapshotSource) -> tuple[SnapshotOrigin, bool]:
    return source.current.origin, source.current.is_confirmed


def static() -> Snapshot:
    return built_in_snapshot({})


def with_shared_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.conf.settings.LLM_ROUTING", {"SNAPSHOT_CACHE_ALIAS": "default"})
    get_settings.cache_clear()


def test_a_start_without_the_database_takes_the_shared_cache_then_the_file_then_the_built_in_routes(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_shared_cache(monkeypatch)
    table = fresh().current.table
    file = get_settings().state_dir / "routing_table.json"
    for origin in (SnapshotOrigin.CACHE, SnapshotOrigin.FILE, SnapshotOrigin.STATIC):
        if origin is not SnapshotOrigin.CACHE:
            caches["default"].clear()
        if origin is SnapshotOrigin.STATIC:
            file.unlink()
        source = SnapshotSource()
        with away():
            source.refresh(last_resort=static)
        assert state(source) == (origin, False)
        assert (source.current.table == table) == (origin is not SnapshotOrigin.STATIC)
        assert source.current.table.routes
        assert source.refresh() is True
        assert state(source) == (SnapshotOrigin.DATABASE, True)
        assert source.current.table == table


def test_the_latest_configuration_stays_in_the_shared_cache_and_cannot_be_forged_there(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_shared_cache(monkeypatch)
    kept: dict[str, object] = {}
    whole_set = type(caches["default"]).set

    def watched(self, key, value, timeout=60, **more):
        kept[key] = timeout
        return whole_set(self, key, value, timeout, **more)

    monkeypatch.setattr(type(caches["default"]), "set", watched)
    table = fresh().current.table
    assert kept["llm_routing:table:latest"] is None, "it has no end"
    token = caches["default"].get("llm_routing:table:latest")
    assert "sandbox" not in token
    forged = table_to_json(table).decode().replace("127.0.0.1", "evil.example")
    caches["default"].set("llm_routing:table:latest", forged)
    source = SnapshotSource()
    with away():
        source.refresh()
    assert source.current.origin is SnapshotOrigin.FILE


def test_an_older_table_under_the_name_of_the_current_version_is_refused(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_shared_cache(monkeypatch)
    cache = caches["default"]
    old = fresh().current.table
    old_token = cache.get(table_cache_key(old.version, old.stamp))
    UseCaseRoute.objects.update(temperature=0.25)
    new = fresh().current.table
    for forger in ("moves the token", "has our keys and seals it anew"):
        name = table_cache_key(new.version, new.stamp)
        if forger == "moves the token":
            cache.set(name, old_token)
        else:
            cache_table(name, old, 60)
        found = fresh().current.table
        assert found == new
        assert found.routes[route_key("debugging", "standard")].temperature == 0.25


def test_an_older_table_put_back_as_the_latest_one_does_not_start_a_process(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_shared_cache(monkeypatch)
    fresh()
    old_token = caches["default"].get("llm_routing:table:latest")
    UseCaseRoute.objects.update(temperature=0.25)
    new = fresh().current.table
    caches["default"].set("llm_routing:table:latest", old_token)
    source = SnapshotSource()
    with away():
        source.refresh()
    assert state(source) == (SnapshotOrigin.FILE, False)
    assert source.current.table == new


def test_a_running_process_knows_whether_the_database_still_answers_for_its_configuration(
    configuration: Configuration,
) -> None:
    source = fresh()
    assert state(source) == (SnapshotOrigin.DATABASE, True)
    with away():
        source.refresh()
    assert state(source) == (SnapshotOrigin.DATABASE, False)
    assert source.refresh() is False
    assert state(source) == (SnapshotOrigin.DATABASE, True)


def test_another_database_with_the_same_version_is_another_configuration(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_shared_cache(monkeypatch)
    source = fresh()
    version = source.current.table.version
    # As after a restored backup with later changes: equal versions, other rows.
    UseCaseRoute.objects.update(temperature=0.25)
    ConfigurationVersion.objects.filter(area="routing").update(version=version)
    assert source.refresh() is True
    for one in (source, fresh()):
        assert one.current.table.version == version
        assert one.current.table.routes[route_key("debugging", "standard")].temperature == 0.25


def test_a_damaged_file_is_no_configuration(configuration: Configuration) -> None:
    fresh()
    (get_settings().state_dir / "routing_table.json").write_bytes(b'{"version": "x"')
    source = SnapshotSource()
    with away():
        assert source.refresh() is False
    assert source.current.origin is SnapshotOrigin.NOWHERE


def test_no_key_is_in_the_file_nor_in_the_shared_cache(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch, settings
) -> None:
    configuration.first.set_api_key("sk-very-secret-key")
    configuration.first.save()
    monkeypatch.setattr("django.conf.settings.LLM_ROUTING", {"SNAPSHOT_CACHE_ALIAS": "default"})
    get_settings.cache_clear()
    source = fresh()
    credential = source.current.credentials.get("first")
    assert credential is not None
    assert credential.headers["Authorization"] == "Bearer sk-very-secret-key"
    assert "secret" not in repr(source.current)
    saved = (get_settings().state_dir / "routing_table.json").read_text()
    assert json.loads(saved)["version"] == source.current.table.version
    encrypted = Provider.objects.get(name="first").encrypted_key
    assert encrypted
    for place in (saved, repr(source.current.table)):
        assert "secret" not in place
        assert encrypted not in place


def test_another_process_takes_the_table_from_the_shared_cache(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries
) -> None:
    monkeypatch.setattr("django.conf.settings.LLM_ROUTING", {"SNAPSHOT_CACHE_ALIAS": "default"})
    get_settings.cache_clear()
    first = fresh()
    with django_assert_num_queries(2):
        second = fresh()
    assert second.current.table == first.current.table
    caches["default"].clear()
    assert fresh().current.table == first.current.table


@pytest.mark.parametrize("is_cached", [True, False])
def test_vendor_quirks_come_from_the_installed_release(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    if is_cached:
        with_shared_cache(monkeypatch)
    provider = fresh().current.table.providers["first"]
    row = replace(VENDORS[provider.vendor], quirks=Quirks(max_stops=7))
    for module in ("compiler", "kept_tables"):
        monkeypatch.setattr(
            f"llm_routing.configuration.{module}.VENDORS", {**VENDORS, provider.vendor: row}
        )
    source = SnapshotSource()
    if is_cached:
        source.refresh()
    else:
        with away():
            source.refresh()
    assert source.current.table.providers["first"].quirks == row.quirks_at(provider.base_url)
    # A vendor that only the release knows which kept the table last.
    kept = row.quirks_at(provider.base_url) if is_cached else provider.quirks
    for module in ("compiler", "kept_tables"):
        monkeypatch.setattr(f"llm_routing.configuration.{module}.VENDORS", {})
    source = SnapshotSource()
    with away():
        source.refresh()
    assert source.current.table.providers["first"].quirks == kept


def test_the_table_says_why_a_model_is_not_in_use(configuration: Configuration) -> None:
    """Errors about inactive addresses name the row that is inactive."""
    table = fresh().current.table
    assert not (table.inactive_models)
    assert not (table.inactive_aliases)
    assert not (table.inactive_use_cases)
    ModelConfig.objects.filter(model_id="alpha").update(is_active=False)
    UseCaseRoute.objects.update(is_active=False)
    table = fresh().current.table
    assert table.inactive_models == {"first/alpha": Inactive.MODEL}
    assert table.inactive_aliases == {"the-best": "first/alpha"}
    assert table.inactive_use_cases == {"debugging"}
    Provider.objects.filter(name="first").update(is_active=False)
    Provider.objects.filter(name="second").update(vendor="gone")
    table = fresh().current.table
    assert table.inactive_models == {
        "first/alpha": Inactive.PROVIDER,
        "second/beta": Inactive.VENDOR,
        "second/vectors": Inactive.VENDOR,
    }
    with away():
        started_without = SnapshotSource()
        started_without.refresh()
    assert started_without.current.table == table
