"""Rows that the database rejects, and the validation message that comes first."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, transaction
from django.db.models import ProtectedError

from llm_routing.models import (
    ApiKey,
    HealthCheck,
    ModelConfig,
    Provider,
    RouteTarget,
    UsageRecord,
    UseCaseRoute,
)
from tests import rows

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def refused_by_database(row):
    with pytest.raises((IntegrityError, DataError)), transaction.atomic():
        row.save()
    return True


def message(row):
    """All that a form would show."""
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    return " ".join(caught.value.messages)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": ""}, "cannot be blank"),
        ({"vendor": ""}, "cannot be blank"),
        ({"base_url": "ftp://example.com"}, "must begin with https://"),
        ({"connect_timeout": 0}, "greater than or equal to 0.001"),
        ({"first_token_timeout": -1}, "greater than or equal to 0.001"),
        ({"idle_timeout": 3601}, "less than or equal to 3600"),
        ({"total_timeout": 1e9}, "less than or equal to 3600"),
        ({"max_connections": 0}, "greater than or equal to 1"),
    ],
)
def test_a_provider_out_of_bounds(values, sentence):
    row = Provider(**{"name": "acme", "vendor": "openai"} | values)
    assert sentence in message(row)
    assert refused_by_database(row)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"model_id": ""}, "cannot be blank"),
        ({"input_price": Decimal(-1)}, "greater than or equal to 0"),
        ({"output_price": Decimal("-0.01")}, "greater than or equal to 0"),
        ({"cached_input_price": Decimal(-1)}, "greater than or equal to 0"),
        ({"context_window": 0}, "greater than or equal to 1"),
        ({"max_output_tokens": 0}, "greater than or equal to 1"),
    ],
)
def test_a_model_out_of_bounds(values, sentence):
    row = ModelConfig(**{"provider": rows.provider(), "model_id": "gpt"} | values)
    assert sentence in message(row)
    assert refused_by_database(row)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"use_case": ""}, "cannot be blank"),
        ({"tier": "platinum"}, "not a valid choice"),
        ({"temperature": -0.1}, "greater than or equal to 0"),
        ({"temperature": 2.1}, "less than or equal to 2"),
        ({"max_tokens": 0}, "greater than or equal to 1"),
        ({"deadline": 0}, "greater than or equal to 0.001"),
        ({"cache_ttl": -1}, "greater than or equal to 0"),
    ],
)
def test_a_route_out_of_bounds(values, sentence):
    row = UseCaseRoute(**{"use_case": "debugging"} | values)
    assert sentence in message(row)
    assert refused_by_database(row)


def test_a_weight_below_one():
    row = RouteTarget(route=rows.route(), model=rows.model(), weight=0)
    assert "greater than or equal to 1" in message(row)
    assert refused_by_database(row)


def test_a_negative_position():
    row = RouteTarget(route=rows.route(), model=rows.model(), position=-1)
    assert "greater than or equal to 0" in message(row)
    assert refused_by_database(row)


@pytest.mark.parametrize("temperature", [0, 2])
def test_the_bounds_of_temperature_are_within(temperature):
    row = UseCaseRoute(use_case="debugging", temperature=temperature)
    row.full_clean()
    row.save()


class TestUnique:
    def test_a_provider_s_name(self):
        rows.provider("acme")
        again = Provider(name="acme", vendor="openai")
        assert "already a provider with this name" in message(again)
        assert refused_by_database(again)

    def test_a_model_within_its_provider(self):
        first = rows.model("gpt")
        again = ModelConfig(provider=first.provider, model_id="gpt")
        assert "already has a model with this ID" in message(again)
        assert refused_by_database(again)
        rows.model("gpt", of="another")

    def test_an_alias(self):
        rows.model("a", alias="fast")
        again = ModelConfig(provider=rows.provider(), model_id="b", alias="fast")
        assert "Another model has this alias" in message(again)
        assert refused_by_database(again)

    def test_any_number_of_models_have_no_alias(self):
        for model_id in ("a", "b"):
            row = ModelConfig(provider=rows.provider(), model_id=model_id, alias="")
            row.full_clean()
            row.save()
            assert row.alias is None

    def test_a_use_case_within_its_tier(self):
        rows.route("debugging", tier="premium")
        again = UseCaseRoute(use_case="debugging", tier="premium")
        assert "already a route for this use case and tier" in message(again)
        assert refused_by_database(again)
        rows.route("debugging", tier="economy")

    def test_a_model_within_a_route(self):
        model = rows.model()
        again = RouteTarget(route=rows.route("debugging", model), model=model, position=5)
        assert "already a target of the route" in message(again)
        assert refused_by_database(again)


class TestDeletion:
    def test_a_model_of_a_route_stays(self):
        model = rows.model()
        rows.route("debugging", model)
        with pytest.raises(ProtectedError):
            model.delete()
        with pytest.raises(ProtectedError):
            model.provider.delete()
        assert ModelConfig.objects.filter(pk=model.pk).exists()

    def test_models_without_a_route_go_with_their_provider(self):
        rows.model().provider.delete()
        assert not ModelConfig.objects.exists()

    def test_targets_go_with_their_route_and_models_stay(self):
        rows.route("debugging", rows.model()).delete()
        assert not RouteTarget.objects.exists()
        assert ModelConfig.objects.exists()

    def test_usage_records_outlive_the_rows_they_name(self):
        rows.usage("1", NOW)
        rows.model().provider.delete()
        assert UsageRecord.objects.get().provider == "openai"


class TestKeysUsageAndHealth:
    def test_a_clear_text_is_no_digest(self):
        assert refused_by_database(ApiKey(name="n", prefix="sk-llm-abcde", digest="sk-llm-abcdef"))
        assert refused_by_database(ApiKey(name="n", prefix="sk-llm-abcde", digest="A" * 64))

    def test_a_key_has_a_name_and_a_tenant(self):
        assert refused_by_database(ApiKey(name="", digest="a" * 64))
        assert refused_by_database(ApiKey(name="n", tenant="", digest="a" * 64))

    @pytest.mark.parametrize(
        "values", [{"outcome": "mystery"}, {"cost": Decimal(-1)}, {"input_tokens": -1}]
    )
    def test_an_invalid_usage_record_is_rejected(self, values):
        with pytest.raises((IntegrityError, DataError)):
            rows.usage("1", NOW, **values)

    def test_an_attempt_is_recorded_once(self):
        rows.usage("1", NOW)
        with pytest.raises(IntegrityError):
            rows.usage("1", NOW)

    def test_a_cost_keeps_its_last_digit(self):
        rows.usage("1", NOW, cost=Decimal("1234.0123456789"))
        assert UsageRecord.objects.get().cost == Decimal("1234.0123456789")

    def test_usage_of_a_time_and_a_tenant(self):
        for hour in range(3):
            rows.usage(str(hour), NOW + timedelta(hours=hour), tenant="a" if hour else "b")
        between = UsageRecord.objects.between(NOW, NOW + timedelta(hours=2))
        assert [row.attempt_id for row in between] == ["1", "0"]
        assert [row.attempt_id for row in between.of_tenant("b")] == ["0"]

    def test_the_newest_check_of_each_target(self):
        for hour, (model, healthy) in enumerate([("a", True), ("b", True), ("a", False)]):
            HealthCheck.objects.create(
                provider="p",
                model=model,
                is_healthy=healthy,
                checked_at=NOW + timedelta(hours=hour),
            )
        newest = HealthCheck.objects.newest_by_target()
        assert {(row.model, row.is_healthy) for row in newest} == {("a", False), ("b", True)}

    def test_a_latency_is_not_negative(self):
        with pytest.raises(IntegrityError):
            HealthCheck.objects.create(provider="p", is_healthy=True, latency_ms=-1)


@pytest.mark.parametrize("name", [" x", "x ", "  x  "])
def test_the_database_refuses_names_with_blanks_at_their_ends(name):
    """Rows that are written without the checks of a form, as on the command line."""
    rows_with_it = [
        Provider(name=name, vendor="openai"),
        ModelConfig(provider=rows.provider(), model_id=name),
        ModelConfig(provider=rows.provider(), model_id="m", alias=name),
        UseCaseRoute(use_case=name),
        ApiKey(name=name, prefix="sk-llm-", digest="0" * 64),
        ApiKey(name="n", tenant=name, prefix="sk-llm-", digest="0" * 64),
    ]
    for row in rows_with_it:
        assert message(row)
        assert refused_by_database(row)


def test_names_have_blanks_inside():
    UseCaseRoute.objects.create(use_case="Gemini 2.5 Flash")
    ModelConfig.objects.create(provider=rows.provider(), model_id="m", alias="team fast")
    ApiKey.objects.issue("the nightly job")
