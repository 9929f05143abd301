"""Every change of the configuration moves its version, and is announced once it is committed."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.core.management import call_command
from django.db import NotSupportedError, connection, transaction
from django.utils.timezone import now

from llm_routing.models import (
    ApiKey,
    ConfigurationVersion,
    ModelConfig,
    Provider,
    RouteTarget,
    UseCaseRoute,
)
from llm_routing.signals import configuration_changed
from tests import rows


def version(area="routing"):
    return ConfigurationVersion.objects.current(area)


@pytest.fixture
def announced():
    """The areas announced so far."""
    areas = []

    def listen(area, using, **_):
        assert using == "default"
        areas.append(area)

    configuration_changed.connect(listen)
    yield areas
    configuration_changed.disconnect(listen)


def _rename(row):
    row.display_name = "New"
    return row


CHANGES = {
    "create": lambda model: Provider.objects.create(name="new", vendor="openai"),
    "save": lambda model: _rename(model).save(),
    "save of one field": lambda model: _rename(model).save(update_fields=["display_name"]),
    "delete": lambda model: model.delete(),
    "update_or_create": lambda model: ModelConfig.objects.update_or_create(
        provider=model.provider, model_id="gpt", defaults={"display_name": "New"}
    ),
    "QuerySet.update": lambda model: ModelConfig.objects.update(display_name="New"),
    "QuerySet.delete": lambda model: ModelConfig.objects.all().delete(),
    "bulk_create": lambda model: Provider.objects.bulk_create(
        [Provider(name="new", vendor="openai")]
    ),
    "bulk_update": lambda model: ModelConfig.objects.bulk_update(
        [_rename(model)], ["display_name"]
    ),
    "update through a relation": lambda model: model.provider.models.update(display_name="New"),
    "a cascade": lambda model: model.provider.delete(),
    "a new route": lambda model: UseCaseRoute.objects.create(use_case="debugging"),
    "a new target": lambda model: rows.route("debugging", model),
    "a raw fixture": lambda model: load(serializers.serialize("json", [_rename(model)])),
}


def load(fixture):
    for row in serializers.deserialize("json", fixture):
        row.save()


@pytest.mark.django_db(transaction=True)
class TestVersion:
    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
    def test_a_change_moves_the_version_of_routing_and_is_announced(self, change, announced):
        model = rows.model()
        before = version()
        announced.clear()
        change(model)
        assert version() > before
        assert set(announced) == {"routing"}
        assert version("access") == 0

    @pytest.mark.parametrize(
        "change",
        [
            lambda key: key.delete(),
            lambda key: ApiKey.objects.update(is_active=False),
            lambda key: ApiKey.objects.issue("another"),
        ],
    )
    def test_a_key_moves_the_version_of_access(self, change, announced):
        key, _clear_text = ApiKey.objects.issue("first")
        before = version("access")
        announced.clear()
        change(key)
        assert version("access") > before
        assert announced == ["access"]
        assert version() == 0

    @pytest.mark.parametrize(
        "nothing",
        [
            lambda: Provider.objects.filter(name="nobody").update(notes="x"),
            lambda: Provider.objects.bulk_create([]),
            lambda: Provider.objects.filter(name="nobody").delete(),
        ],
    )
    def test_a_write_that_changes_no_row_does_not_bump_the_version(self, nothing, announced):
        nothing()
        assert version() == 0
        assert announced == []

    def test_a_transaction_is_announced_once_for_each_area_after_its_commit(self, announced):
        with transaction.atomic():
            model = rows.model()
            rows.route("debugging", model)
            ModelConfig.objects.update(display_name="New")
            ApiKey.objects.issue("key")
            assert announced == []
        assert sorted(announced) == ["access", "routing"]

    def test_each_transaction_is_announced(self, announced):
        rows.provider("a")
        rows.provider("b")
        assert announced == ["routing", "routing"]

    def test_a_rollback_takes_the_version_back_and_is_not_announced(self, announced):
        with transaction.atomic():
            rows.provider("a")
            transaction.set_rollback(True)
        assert version() == 0
        assert announced == []
        rows.provider("b")
        assert announced == ["routing"]

    def test_a_savepoint_rolled_back_does_not_silence_the_rest(self, announced):
        with transaction.atomic():
            with transaction.atomic():
                rows.provider("a")
                transaction.set_rollback(True)
            rows.provider("b")
            with transaction.atomic():
                rows.provider("c")
                transaction.set_rollback(True)
        assert announced == ["routing"]
        assert version() == 1

    def test_a_row_and_its_version_are_saved_together_or_not_at_all(self, monkeypatch):
        def fail(*_):
            raise RuntimeError

        monkeypatch.setattr(type(ConfigurationVersion.objects.all()), "bump", fail)
        for change in (
            lambda: Provider(name="a", vendor="openai").save(),
            lambda: Provider.objects.bulk_create([Provider(name="a", vendor="openai")]),
        ):
            with pytest.raises(RuntimeError):
                change()
            assert not Provider.objects.exists()
            assert not Provider.history.exists()

    def test_a_listener_that_fails_does_not_stop_the_others(self, announced, caplog):
        def fail(**_):
            raise RuntimeError("this listener is broken")

        configuration_changed.connect(fail)
        try:
            rows.provider("a")
        finally:
            configuration_changed.disconnect(fail)
        assert announced == ["routing"]
        assert "this listener is broken" in caplog.text

    def test_a_fixture_loaded_by_the_command_is_announced_once(self, announced, tmp_path):
        provider = rows.provider()
        models = [
            ModelConfig(
                pk=n, provider=provider, model_id=str(n), created_at=now(), updated_at=now()
            )
            for n in range(1, 4)
        ]
        announced.clear()
        fixture = tmp_path / "models.json"
        fixture.write_text(serializers.serialize("json", models))
        call_command("loaddata", str(fixture), verbosity=0)
        assert ModelConfig.objects.count() == 3
        assert announced == ["routing"]

    def test_async_methods_move_it_too(self):
        async def change():
            await Provider.objects.acreate(name="a", vendor="openai")
            await Provider.objects.aupdate(notes="x")

        async_to_sync(change)()
        assert version() == 2


@pytest.mark.django_db
class TestBulk:
    def test_a_test_that_runs_in_a_transaction_sees_every_announcement(
        self, announced, django_capture_on_commit_callbacks
    ):
        for name in ("a", "b"):
            with django_capture_on_commit_callbacks(execute=True):
                rows.provider(name)
                Provider.objects.update(notes=name)
        assert announced == ["routing", "routing"]

    @pytest.mark.parametrize("options", [{"ignore_conflicts": True}, {"update_conflicts": True}])
    def test_handling_of_conflicts_is_refused(self, options):
        with pytest.raises(NotSupportedError):
            Provider.objects.bulk_create([Provider(name="a", vendor="openai")], **options)

    def test_a_bulk_update_reports_its_rows(self):
        rows.model("a"), rows.model("b")
        assert ModelConfig.objects.filter(model_id="a").update(display_name="x") == 1

    def test_an_update_takes_a_fixed_number_of_queries(self, django_assert_num_queries):
        for n in range(3):
            rows.model(str(n))
        with django_assert_num_queries(5):
            ModelConfig.objects.update(display_name="x")
        for n in range(3, 30):
            rows.model(str(n))
        with django_assert_num_queries(5):
            ModelConfig.objects.update(display_name="y")

    def test_more_rows_than_a_query_has_room_for(self, monkeypatch):
        monkeypatch.setattr(type(connection.features), "max_query_params", 2)
        for n in range(5):
            rows.provider(str(n))
        before = Provider.history.count()
        Provider.objects.update(notes="x")
        assert Provider.history.count() == before + 5

    def test_reading_the_version_makes_no_row(self):
        assert version() == 0
        assert not ConfigurationVersion.objects.exists()
        assert str(ConfigurationVersion(area="routing", version=3)) == "routing 3"


@pytest.mark.django_db
class TestReading:
    def test_active_models_have_an_active_provider(self, django_assert_num_queries):
        rows.model("on")
        rows.model("off", is_active=False)
        rows.model("elsewhere", of="gone")
        Provider.objects.filter(name="gone").update(is_active=False)
        with django_assert_num_queries(1):
            assert [str(model) for model in ModelConfig.objects.active()] == ["openai/on"]

    def test_routes_are_read_with_their_targets_in_two_queries(self, django_assert_num_queries):
        first, second = rows.model("a"), rows.model("b", of="other")
        rows.route("debugging", second, first)
        rows.route("documentation", first, is_active=False)
        with django_assert_num_queries(2):
            routes = list(UseCaseRoute.objects.active().with_targets())
            names = [[str(target) for target in route.targets.all()] for route in routes]
        assert names == [["0: other/b", "1: openai/a"]]

    def test_active_targets_can_be_reached(self):
        rows.route("debugging", rows.model("a"), rows.model("b", is_active=False))
        rows.route("documentation", rows.model("c"), is_active=False)
        assert [str(target) for target in RouteTarget.objects.active()] == ["0: openai/a"]

    def test_fixtures_hold_no_clear_key(self):
        provider = rows.provider()
        provider.set_api_key("sk-very-secret-indeed")
        provider.save()
        assert "sk-very" not in json.dumps(serializers.serialize("json", Provider.objects.all()))
