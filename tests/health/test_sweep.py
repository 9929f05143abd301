"""The requests of a sweep, its interpretation of responses, and its rows in the database."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from llm_routing.conf import get_settings
from llm_routing.factory import sweep_health
from llm_routing.health.sweep import (
    LeaseLost,
    NothingToCheck,
    Selection,
    SweepStopped,
)
from llm_routing.models import (
    HealthCheck,
    ModelConfig,
    Provider,
    SweepLease,
    UsageRecord,
)
from llm_routing.process.background import stop_background
from project.processes import free_port
from tests.waiting import until

from .conftest import KEY, MODELS, Answer, Upstream, add_provider, found, swept


def test_one_request_proves_the_key_and_judges_every_model(
    provider: Provider, upstream: Upstream
) -> None:
    report = swept()
    assert report.is_healthy
    assert found(report) == {"first": "", "first/alpha": "", "first/beta": "", "first/vectors": ""}
    assert upstream.asked == [("GET", "/v1/models")]
    rows = HealthCheck.objects.order_by("model")
    assert [(row.model, row.is_healthy, row.kind) for row in rows] == [
        ("", True, "credential"),
        ("alpha", True, "credential"),
        ("beta", True, "credential"),
        ("vectors", True, "credential"),
    ]
    assert all(row.latency_ms is not None and row.latency_ms > 0 for row in rows)
    assert all(timezone.now() - row.checked_at < timedelta(seconds=10) for row in rows)
    assert UsageRecord.objects.count() == 0


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(401, {"error": {"message": "Wrong key."}}), "credential_rejected"),
        (Answer(403, {"error": {"message": "No."}}), "credential_rejected"),
        (Answer(429, {"error": {"message": "Slow down."}}), "rate_limited"),
        (Answer(500, b"oops"), "server_failed"),
        (Answer(503, b"busy"), "upstream_overloaded"),
        (Answer(200, b"<html>Welcome</html>"), "malformed_answer"),
        (Answer(200, {"hello": "there"}), "malformed_answer"),
        (Answer(302, b"", headers={"Location": "http://127.0.0.1/"}), "malformed_answer"),
    ],
)
def test_an_error_is_reported_by_its_code(
    provider: Provider, upstream: Upstream, answer: Answer, code: str
) -> None:
    upstream.answers["/v1/models"] = answer
    report = swept()
    assert not report.is_healthy
    assert set(found(report).values()) == {code}
    assert upstream.count("/v1/models") == 1


def test_a_model_that_the_vendor_does_not_list_is_not_there(
    provider: Provider, upstream: Upstream
) -> None:
    upstream.answers["/v1/models"] = Answer(body={"data": [{"id": "alpha"}, {"id": "vectors"}]})
    assert found(swept()) == {
        "first": "",
        "first/alpha": "",
        "first/beta": "model_not_found",
        "first/vectors": "",
    }


def test_a_server_of_ones_own_may_take_models_that_it_does_not_list(
    clean_process: None, upstream: Upstream
) -> None:
    add_provider("own", upstream.base_url, vendor="vllm")
    upstream.answers["/v1/models"] = Answer(body={"data": [{"id": "other"}]})
    assert swept().is_healthy


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_provider_without_a_list_is_believed_if_it_answers(
    provider: Provider, upstream: Upstream, status: int
) -> None:
    upstream.answers["/v1/models"] = Answer(status, b"no such thing")
    assert swept().is_healthy


def test_a_vendor_with_a_public_list_is_checked_by_a_call_that_needs_the_key(
    clean_process: None, upstream: Upstream
) -> None:
    add_provider("router", upstream.base_url, vendor="openrouter")
    upstream.answers["/v1/key"] = Answer(body={"data": {"label": "x"}})
    assert swept().is_healthy
    assert upstream.asked == [("GET", "/v1/key")]
    upstream.answers["/v1/key"] = Answer(401, {"error": {"message": "No."}})
    assert set(found(swept()).values()) == {"credential_rejected"}
    upstream.answers["/v1/key"] = Answer(200, b"<html>")
    assert set(found(swept()).values()) == {"malformed_answer"}


def test_anthropic_s_list_is_requested_in_its_own_format(
    clean_process: None, upstream: Upstream
) -> None:
    upstream.needs_key = False
    add_provider("claude", upstream.url, vendor="anthropic")
    upstream.answers["/v1/models"] = Answer(body={**MODELS, "has_more": False})
    assert swept().is_healthy
    upstream.answers["/v1/models"] = Answer(body={"data": [{"id": "alpha"}], "has_more": True})
    # Others may follow on the next page.
    assert swept().is_healthy


def test_a_provider_without_a_key_is_not_called(provider: Provider, upstream: Upstream) -> None:
    provider.clear_api_key()
    provider.save()
    assert set(found(swept()).values()) == {"no_credential"}
    assert set(found(swept(deep=True)).values()) == {"no_credential"}
    assert upstream.asked == []
    assert not HealthCheck.objects.exists(), "another process may have the key"


def test_an_unresponsive_provider_delays_a_sweep_only_to_its_timeout(
    provider: Provider, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_HEALTH_CHECK_TIMEOUT", "0.5")
    get_settings.cache_clear()
    add_provider("gone", f"http://127.0.0.1:{free_port()}/v1")
    slow = add_provider("slow", f"{upstream.url}/slow")
    slow.connect_timeout = 5
    slow.save()
    over = threading.Event()
    upstream.answers["/slow/models"] = Answer(body=MODELS, hold=over)
    results = found(swept())
    over.set()
    assert results["first"] == ""
    assert results["gone"] == "connection_failed"
    assert results["slow"] == results["slow/alpha"] == "upstream_timeout"


def test_no_more_checks_run_at_one_time_than_settings_say(
    clean_process: None, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_HEALTH_CHECK_CONCURRENCY", "2")
    get_settings.cache_clear()
    for n in range(6):
        add_provider(f"p{n}", f"{upstream.url}/p{n}")
        upstream.answers[f"/p{n}/models"] = Answer(body=MODELS, delay=0.1)
        upstream.answers[f"/p{n}/chat/completions"] = Answer(500, b"", delay=0.05)
        upstream.answers[f"/p{n}/embeddings"] = Answer(500, b"", delay=0.05)
    swept()
    assert len(upstream.asked) == 6
    assert upstream.busiest == 2
    swept(deep=True)
    assert upstream.busiest == 2
    stop_background()


def test_a_deep_sweep_calls_every_model_once_and_is_recorded(
    provider: Provider, upstream: Upstream
) -> None:
    report = swept(deep=True)
    assert report.is_healthy
    assert upstream.count("/v1/models") == 1
    assert upstream.count("/v1/chat/completions") == 2
    assert upstream.count("/v1/embeddings") == 1
    chats = [body for body in upstream.bodies if b"messages" in body]
    assert all(b'"max_completion_tokens":1' in body.replace(b" ", b"") for body in chats)
    kinds = {row.model: row.kind for row in HealthCheck.objects.all()}
    assert kinds == {
        "": "credential",
        "alpha": "completion",
        "beta": "completion",
        "vectors": "completion",
    }
    stop_background()
    records = UsageRecord.objects.order_by("model")
    assert [(row.model, row.operation, row.outcome) for row in records] == [
        ("alpha", "health", "success"),
        ("beta", "health", "success"),
        ("vectors", "health", "success"),
    ]
    assert records[0].cost is not None
    assert records[0].cost > 0


def test_a_deep_sweep_finds_errors_that_a_list_hides(
    provider: Provider, upstream: Upstream
) -> None:
    upstream.answers["/v1/chat/completions"] = Answer(500, {"error": {"message": "Broken."}})
    assert found(swept(deep=True)) == {
        "first": "",
        "first/alpha": "server_failed",
        "first/beta": "server_failed",
        "first/vectors": "",
    }
    # Once each: a check is not retried.
    assert upstream.count("/v1/chat/completions") == 2
    stop_background()


def test_a_model_that_refuses_our_question_is_well_and_one_that_is_not_there_is_not(
    provider: Provider, upstream: Upstream
) -> None:
    upstream.answers["/v1/chat/completions"] = Answer(400, {"error": {"message": "Too short."}})
    report = swept(deep=True, models=("alpha",))
    assert report.is_healthy
    assert {result.error_code for result in report.results} == {"", "request_rejected"}
    upstream.answers["/v1/chat/completions"] = Answer(
        404, {"error": {"message": "No such model.", "code": "model_not_found"}}
    )
    assert found(swept(deep=True, models=("alpha",)))["first/alpha"] == "model_not_found"
    for missing, code in (
        ({"detail": "Not Found"}, "endpoint_not_found"),
        ({"error": {"message": "Nothing here."}}, "request_rejected"),
    ):
        upstream.answers["/v1/chat/completions"] = Answer(404, missing)
        assert found(swept(deep=True, models=("alpha",)))["first/alpha"] == code
    stop_background()


def test_a_model_that_hangs_is_found_in_a_deep_sweep(
    provider: Provider, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_HEALTH_CHECK_TIMEOUT", "0.5")
    get_settings.cache_clear()
    upstream.answers["/v1/chat/completions"] = Answer(body={}, delay=5)
    results = found(swept(deep=True, models=("first/alpha", "vectors")))
    assert results == {"first": "", "first/alpha": "cut_by_deadline", "first/vectors": ""}
    stop_background()


def test_only_the_selection_is_checked(provider: Provider, upstream: Upstream) -> None:
    add_provider("second", upstream.base_url)
    ModelConfig.objects.filter(provider=provider, model_id="beta").update(alias="the-best")
    assert set(found(swept(providers=("second",)))) == {
        "second",
        "second/alpha",
        "second/beta",
        "second/vectors",
    }
    assert set(found(swept(models=("the-best",)))) == {"first", "first/beta"}
    assert set(found(swept(models=("alpha",), providers=("first",)))) == {"first", "first/alpha"}
    assert set(found(swept(models=("second/alpha",)))) == {"second", "second/alpha"}


def test_inactive_targets_are_not_checked_and_unknown_names_are_errors(
    provider: Provider, upstream: Upstream
) -> None:
    ModelConfig.objects.filter(model_id="beta").update(is_active=False)
    off = add_provider("off", upstream.base_url)
    off.is_active = False
    off.save()
    assert set(found(swept())) == {"first", "first/alpha", "first/vectors"}
    for selection in (
        Selection(("off",)),
        Selection(("nobody",)),
        Selection((), ("beta",)),
        Selection((), ("nothing",)),
    ):
        with pytest.raises(NothingToCheck):
            sweep_health(selection)
    Provider.objects.update(is_active=False)
    with pytest.raises(NothingToCheck, match="No provider is active"):
        sweep_health(Selection())
    assert SweepLease.objects.get().holder == ""


def test_history_is_kept_and_pruned(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_HEALTH_HISTORY_DAYS", "2")
    get_settings.cache_clear()
    now = timezone.now()
    for days in (1, 1.9, 2.1, 50):
        HealthCheck.objects.create(
            provider="first", is_healthy=True, checked_at=now - timedelta(days=days)
        )
    swept()
    assert HealthCheck.objects.filter(checked_at__lt=now - timedelta(hours=1)).count() == 2


def test_reports_and_rows_contain_no_key(provider: Provider, upstream: Upstream) -> None:
    upstream.answers["/v1/models"] = Answer(
        401, {"error": {"message": f"Incorrect API key provided: {KEY}."}}
    )
    report = swept()
    assert found(report)["first"] == "credential_rejected"
    assert KEY not in str(report.as_json())
    assert KEY not in str(list(HealthCheck.objects.values()))


def test_a_sweep_that_has_lost_its_lease_records_nothing(
    provider: Provider, upstream: Upstream
) -> None:
    is_stolen = threading.Event()
    upstream.answers["/v1/models"] = Answer(body=MODELS, hold=is_stolen)

    def steal() -> None:
        while not SweepLease.objects.exclude(holder="").update(holder="somebody else"):
            time.sleep(0.05)
        is_stolen.set()
        connection.close()

    thread = threading.Thread(target=steal)
    thread.start()
    with pytest.raises(LeaseLost):
        sweep_health(Selection())
    thread.join()
    assert HealthCheck.objects.count() == 0
    assert SweepLease.objects.get().holder == "somebody else"


def test_a_stopped_sweep_ends_and_releases_its_lease(
    provider: Provider, upstream: Upstream
) -> None:
    over, stopping = threading.Event(), threading.Event()
    upstream.answers["/v1/models"] = Answer(body=MODELS, hold=over)

    def stop() -> None:
        until(lambda: upstream.asked)
        stopping.set()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(SweepStopped):
        sweep_health(Selection(), stopping=stopping)
    over.set()
    thread.join()
    assert HealthCheck.objects.count() == 0
    assert SweepLease.objects.get().holder == ""
