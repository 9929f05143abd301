"""Operators and health: the last day at a glance, checking now, and resetting breakers."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from llm_routing.admin.last_24_hours import HEIGHT, HOURS, Hour, last_24_hours_of, sparkline
from llm_routing.health.monitor import health_monitor
from llm_routing.models import BreakerReport, BreakerReset, HealthCheck, Provider, SweepLease

from .conftest import KEY, Answer, Upstream, add_provider

Operator = Callable[..., Client]


@pytest.fixture
def operator(clean_process: None) -> Operator:
    """Returns a user with only these permissions; with all permissions if none are given."""

    def make(*codenames: str) -> Client:
        user = get_user_model().objects.create_user("bob", is_staff=True)
        user.is_superuser = not codenames
        user.save()
        ours = Permission.objects.filter(content_type__app_label="llm_routing")
        user.user_permissions.set(ours.filter(codename__in=codenames))
        client = Client()
        client.force_login(user)
        return client

    return make


def url(model: str) -> str:
    return reverse(f"admin:llm_routing_{model}_changelist")


def act(client: Client, model: str, action: str, *rows: Any) -> str:
    """The page after an action on rows."""
    chosen = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(url(model), chosen, follow=True).content.decode()


def report(model: str = "alpha", process: str = "host:1:a", **values: Any) -> BreakerReport:
    values = {
        "state": "open",
        "cause": "server_failed",
        "opened_at": Now(),
        "retry_at": Now() + timedelta(seconds=30),
        "seen_at": Now(),
    } | values
    return BreakerReport.objects.create(provider="first", model=model, process=process, **values)


def hours_ago(hours: float, is_healthy: bool = True, **values: Any) -> None:
    values = {"provider": "first", "latency_ms": 10.0} | values
    HealthCheck.objects.create(
        is_healthy=is_healthy, checked_at=timezone.now() - timedelta(hours=hours), **values
    )


def test_check_now_checks_the_selected_providers_and_shows_the_result(
    provider: Provider, upstream: Upstream, operator: Operator
) -> None:
    bad = add_provider("second", f"{upstream.url}/second")
    upstream.answers["/second/models"] = Answer(401, {"error": {"message": f"Bad key {KEY}"}})
    client = operator()
    page = act(client, "provider", "check_health", provider)
    assert "4 of 4 checks succeeded." in page
    assert upstream.asked == [("GET", "/v1/models")]
    page = act(client, "provider", "check_health", provider, bad)
    assert "4 of 8 checks succeeded." in page
    assert "“second” is unhealthy: credential_rejected." in page
    assert KEY not in page
    log = LogEntry.objects.order_by("pk")
    assert [(row.object_repr, row.change_message) for row in log] == [
        ("first", "Checked: healthy."),
        ("first", "Checked: healthy."),
        ("second", "Checked: credential_rejected."),
    ]


def test_check_now_needs_its_own_permission(
    provider: Provider, upstream: Upstream, operator: Operator
) -> None:
    client = operator("view_provider", "change_provider")
    assert "check_health" not in client.get(url("provider")).content.decode()
    act(client, "provider", "check_health", provider)
    assert upstream.asked == []
    get_user_model().objects.all().delete()
    client = operator("view_provider", "check_health")
    assert "checks succeeded" in act(client, "provider", "check_health", provider)


def test_check_now_explains_why_it_did_not_run(
    provider: Provider, upstream: Upstream, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_routing.admin.check_now.MAX_WAIT", 0.1)
    client = operator()
    assert SweepLease.objects.claim("sweep", "somebody", 60)
    page = act(client, "provider", "check_health", provider)
    assert "check could not run just now" in page
    Provider.objects.update(is_active=False)
    page = act(client, "provider", "check_health", provider)
    assert "Only active providers are checked." in page
    assert upstream.asked == []


def test_the_lists_show_the_last_day_and_open_breakers(
    provider: Provider, operator: Operator
) -> None:
    hours_ago(0)
    hours_ago(0, is_healthy=False)
    hours_ago(2, is_healthy=False, model="alpha")
    hours_ago(30, is_healthy=False)
    report()
    client = operator()
    page = client.get(url("provider")).content.decode()
    assert "1 of 2 checks succeeded in the last day." in page
    assert "llm-day-warning" in page
    assert "Breaker open" in page
    page = client.get(url("modelconfig")).content.decode()
    assert page.count("Breaker open") == 1
    assert "0 of 1 check succeeded in the last day." in page
    BreakerReport.objects.update(state="half_open")
    assert "Breaker half open" in client.get(url("provider")).content.decode()


@pytest.mark.parametrize("model", ["provider", "modelconfig", "breakerreport"])
def test_the_lists_ask_as_many_queries_for_many_rows_as_for_few(
    provider: Provider, upstream: Upstream, operator: Operator, model: str
) -> None:
    client = operator()

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url(model)).status_code == 200
        return len(captured)

    report()
    queries()
    few = queries()
    for n in range(10):
        add_provider(f"p{n}", upstream.base_url)
        hours_ago(n, provider=f"p{n}")
        report(process=f"host:{n}:b")
    assert queries() == few


def test_a_drawing_has_a_bar_per_hour_and_a_text_alternative() -> None:
    hours = [Hour()] * 20 + [Hour(6, 6, 50.0), Hour(6, 6, 100.0), Hour(6, 3, 10.0), Hour(6)]
    drawing = ElementTree.fromstring(sparkline(hours))
    title, *bars = list(drawing)
    assert title.text == "15 of 24 checks succeeded in the last day."
    assert len(bars) == HOURS
    assert [bar.get("class") for bar in bars[19:]] == [
        "llm-day-off",
        "llm-day-good",
        "llm-day-good",
        "llm-day-warning",
        "llm-day-bad",
    ]
    assert [int(bar.get("height", "")) for bar in bars[19:]] == [1, 9, HEIGHT, 3, HEIGHT]
    assert sparkline([Hour()] * HOURS) == "—"
    assert "<title>1 of 1 check succeeded" in sparkline([Hour(1, 1)])


def test_hours_are_distinct_in_every_time_zone(provider: Provider, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Kolkata"
    hours_ago(0)
    hours_ago(1)
    hours_ago(1)
    day = last_24_hours_of([("first", ""), ("first", "alpha")])
    assert [hour.total for hour in day["first", ""].hours[-2:]] == [2, 1]
    assert {hour.total for hour in day["first", "alpha"].hours} == {0}


def test_breakers_that_are_open_are_listed_by_process_and_dead_ones_are_not(
    operator: Operator,
) -> None:
    report()
    report(process="host:2:b", state="half_open")
    report(process="dead:3:c", seen_at=Now() - timedelta(seconds=60))
    page = operator().get(url("breakerreport")).content.decode()
    assert page.count("first/alpha<") == 2
    assert "server_failed" in page
    assert "host:2:b" in page
    assert "dead:3:c" not in page


class Registry:
    """Breakers that record resets."""

    def __init__(self) -> None:
        self.resets: list[tuple[str, str]] = []

    def reset(self, provider: str, model: str) -> None:
        self.resets.append((provider, model))


def test_a_reset_needs_its_own_permission_and_is_logged(operator: Operator) -> None:
    registry = Registry()
    health_monitor.breakers = registry  # type: ignore[assignment]  # as much of one as is needed
    rows = [report(), report(process="host:2:b"), report("beta")]
    client = operator("view_breakerreport", "change_provider")
    assert "Reset selected" not in client.get(url("breakerreport")).content.decode()
    act(client, "breakerreport", "reset", *rows)
    assert registry.resets == []
    get_user_model().objects.all().delete()

    client = operator("view_breakerreport", "reset_breaker")
    page = act(client, "breakerreport", "reset", *rows[:2])
    assert "1 circuit breaker is closed within seconds." in page
    assert registry.resets == [("first", "alpha")]
    order = BreakerReset.objects.get()
    assert (order.provider, order.model, order.ordered_by) == ("first", "alpha", "bob")
    assert [row.model for row in BreakerReport.objects.all()] == ["beta"]
    assert [row.object_repr for row in LogEntry.objects.all()] == ["first/alpha"] * 2


def test_a_credential_that_is_out_of_use_is_shown_and_can_be_put_back(
    provider: Provider, operator: Operator
) -> None:
    row = report("", cause="quota_exhausted")
    client = operator("view_breakerreport", "reset_breaker", "view_provider", "change_provider")
    assert "Credential disabled: quota_exhausted" in (client.get(url("provider")).content.decode())
    assert "first: credential" in client.get(url("breakerreport")).content.decode()
    act(client, "breakerreport", "reset", row)
    order = BreakerReset.objects.get()
    assert (order.provider, order.model, order.ordered_by) == ("first", "", "bob")
    assert [entry.object_repr for entry in LogEntry.objects.all()] == ["first"]
    assert "Credential disabled" not in client.get(url("provider")).content.decode()


def test_a_provider_name_is_escaped(provider: Provider, operator: Operator) -> None:
    report("<script>alert(1)</script>", cause="<b>")
    page = operator().get(url("breakerreport")).content.decode()
    assert "<script>alert" not in page
    assert "&lt;b&gt;" in page
