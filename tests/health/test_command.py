"""`manage.py llm_health_sweep` as operators and supervisors run it: in processes of their own."""

import json
import os
import signal
import time

import pytest
from django.core.management import CommandError, call_command

from llm_routing.models import HealthCheck, Provider, SweepLease, UsageRecord
from tests.waiting import until

from .conftest import MODELS, Answer, Start, Upstream

pytestmark = pytest.mark.usefixtures("provider")


def sweeps() -> int:
    """Returns the number of recorded sweeps."""
    return HealthCheck.objects.filter(model="").count()


def test_it_exits_with_0_if_all_is_healthy_and_prints_the_result(start: Start) -> None:
    process = start("--json")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    report = json.loads(output)
    assert report["status"] == "healthy"
    assert {(check["provider"], check["model"]) for check in report["checks"]} == {
        ("first", None),
        ("first", "alpha"),
        ("first", "beta"),
        ("first", "vectors"),
    }
    assert all(check["is_healthy"] and check["latency_ms"] > 0 for check in report["checks"])
    assert sweeps() == 1


def test_it_exits_with_1_if_a_target_is_unhealthy(start: Start, upstream: Upstream) -> None:
    upstream.answers["/v1/models"] = Answer(401, {"error": {"message": "Wrong key."}})
    process = start()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "first: credential_rejected" in output
    assert "first/alpha: credential_rejected" in output
    assert "0 healthy, 4 unhealthy" in output


def test_deep_completions_are_accounted_when_it_has_ended(start: Start, upstream: Upstream) -> None:
    process = start("--deep", "--model", "first/alpha", "-v", "2")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "first/alpha: healthy" in output
    record = UsageRecord.objects.get()
    assert (record.operation, record.model, record.outcome) == ("health", "alpha", "success")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--provider", "nobody"),
        ("--model", "nothing"),
        ("--interval", "5"),
        ("--loop", "--interval", "0"),
    ],
)
def test_a_sweep_that_cannot_run_exits_with_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("llm_health_sweep", *arguments)
    assert caught.value.returncode == 2
    assert str(caught.value)


def test_without_a_database_it_exits_with_2_and_hides_the_address(
    start: Start,
) -> None:
    process = start(DATABASE_URL="sqlite:////nowhere/s3cret.sqlite3")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "The database cannot be used" in errors
    assert "s3cret" not in errors


def test_no_active_provider_is_nothing_to_check(start: Start) -> None:
    Provider.objects.update(is_active=False)
    process = start()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "No provider is active" in errors


def test_a_loop_sweeps_until_sigterm(start: Start) -> None:
    process = start("--loop", "--interval", "1", "--json")
    until(lambda: sweeps() >= 2)
    process.terminate()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    reports = [json.loads(line) for line in output.splitlines()]
    assert len(reports) >= 2
    assert SweepLease.objects.get().holder == ""


def test_a_loop_survives_errors(start: Start, upstream: Upstream) -> None:
    Provider.objects.update(is_active=False)
    process = start("--loop", "--interval", "1")
    assert process.stderr is not None
    assert any("Nothing to check" in line for line in process.stderr)
    Provider.objects.update(is_active=True)
    until(lambda: sweeps() >= 1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_of_two_sweepers_one_works(start: Start, upstream: Upstream) -> None:
    upstream.answers["/v1/models"] = Answer(body=MODELS, delay=0.3)
    began = time.monotonic()
    for _ in range(3):
        start("--loop", "--interval", "2")
    until(lambda: sweeps() >= 3)
    elapsed = time.monotonic() - began
    # However many there are, it is one sweep an interval, and never two at once.
    assert upstream.count("/v1/models") <= elapsed / 2 + 2
    assert upstream.busiest == 1


def test_once_waits_for_the_sweep_under_way(start: Start, upstream: Upstream) -> None:
    upstream.answers["/v1/models"] = Answer(body=MODELS, delay=1.5)
    first = start()
    until(lambda: upstream.asked)
    second = start()
    assert first.wait(60) == 0
    assert second.wait(60) == 0
    assert upstream.busiest == 1
    assert sweeps() == 2


def test_the_lease_of_a_sweeper_that_was_killed_is_taken_over(
    start: Start, upstream: Upstream
) -> None:
    upstream.answers["/v1/models"] = Answer(body=MODELS, delay=600)
    victim = start(LLM_HEALTH_CHECK_TIMEOUT="300")
    until(lambda: upstream.asked)
    holder = SweepLease.objects.get().holder
    assert f":{victim.pid}:" in holder
    upstream.answers["/v1/models"] = Answer(body=MODELS)
    heir = start("--loop", "--interval", "2")
    time.sleep(2)
    assert sweeps() == 0
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert SweepLease.objects.get().holder == holder
    # Not before the lease has run out, and soon after.
    until(lambda: sweeps() >= 1, 120)
    heir.terminate()
    assert heir.wait(60) == 0


def test_a_sweeper_that_was_stopped_for_long_records_nothing_when_it_wakes(
    start: Start, upstream: Upstream
) -> None:
    upstream.answers["/v1/models"] = Answer(body=MODELS, delay=1)
    sleeper = start()
    until(lambda: upstream.asked)
    os.kill(sleeper.pid, signal.SIGSTOP)
    SweepLease.objects.update(holder="somebody else")
    until(lambda: not upstream.busy)
    os.kill(sleeper.pid, signal.SIGCONT)
    _, errors = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 2
    assert "Another sweeper has taken over" in errors
    assert sweeps() == 0


def test_a_partial_sweep_does_not_replace_a_complete_one(start: Start) -> None:
    process = start("--provider", "first")
    assert process.wait(60) == 0
    assert SweepLease.objects.get().swept_at is None
