"""Processes that share a directory: sums never go down, whichever process is killed when."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from llm_routing.core.attempts.limits import LimitStatus
from llm_routing.core.breaker import BreakerState, BreakerStatus
from llm_routing.core.errors import ERRORS_BY_CODE
from llm_routing.core.ports import AttemptOpened, AttemptSettled
from llm_routing.core.types import AttemptOutcome, CacheState, Caller, RequestEnded, Usage
from llm_routing.metrics import Exposition, Metrics, ProcessGauges
from llm_routing.metrics import families as f
from llm_routing.metrics.cells import MAX_CELLS
from llm_routing.metrics.recorder import MAX_PROVIDERS, MAX_ROUTES, MAX_TARGETS
from llm_routing.metrics.shared import LOCK
from llm_routing.system.locked_files import lock_file
from project.processes import ROOT
from tests.servers import environment

from .conftest import Numbers

Start = Callable[[], Metrics]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts metrics as another process would: locks belong to the open file."""
    started = []

    def begin() -> Metrics:
        started.append(Metrics(tmp_path / "metrics"))
        return started[-1]

    yield begin
    for metrics in started:
        metrics.close()


def attempt(provider: str = "openai", model: str = "gpt") -> AttemptOpened:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return AttemptOpened("1", "r", Caller("t"), "chat", "", "", provider, model, 1, now)


def settle(metrics: Metrics, opened: AttemptOpened, error_code: str = "") -> None:
    outcome = AttemptOutcome.FAILURE if error_code else AttemptOutcome.SUCCESS
    usage, cost = Usage(10, 5), Decimal("0.001")
    metrics.settled(AttemptSettled(opened, outcome, error_code, 200, usage, cost, 100, 50))


def end(metrics: Metrics, use_case: str = "debugging", error_code: str = "") -> None:
    outcome = AttemptOutcome.FAILURE if error_code else AttemptOutcome.SUCCESS
    metrics.request_started()
    metrics.request_ended(
        RequestEnded(
            "chat", use_case, "standard", outcome, error_code, 0.1, 0.001, CacheState.MISS, ()
        )
    )


def read(metrics: Metrics) -> Numbers:
    return Numbers(Exposition(metrics).text("")[0].decode())


def test_every_process_shows_the_numbers_of_all(start: Start) -> None:
    one, two = start(), start()
    end(one)
    end(two)
    end(two)
    one.opened(attempt())
    two.opened(attempt())
    for metrics in (one, two):
        numbers = read(metrics)
        assert numbers.sum("requests_total", outcome="success") == 3
        assert numbers.sum("request_duration_seconds_count") == 3
        assert numbers.sum("request_duration_seconds_bucket", le="0.1") == 3
        assert numbers.sum("request_duration_seconds_bucket", le="0.05") == 0
        assert numbers.sum("request_duration_seconds_sum") == pytest.approx(0.3)
        assert numbers.sum("attempts_in_progress") == 2
        assert numbers.sum("processes") == 2


def test_counters_of_ended_processes_remain_and_gauges_do_not(start: Start) -> None:
    one, two = start(), start()
    end(two)
    two.opened(attempt())
    two.close()
    for merged in (False, True, True):
        if merged:
            one.merge_ended()
        numbers = read(one)
        assert numbers.sum("requests_total") == 1
        assert numbers.sum("attempts_in_progress") == 0
        assert numbers.sum("processes") == 1


def test_ended_processes_are_merged_into_one_file(start: Start, tmp_path: Path) -> None:
    one = start()
    for _ in range(5):
        other = start()
        end(other)
        other.close()
        one.merge_ended()
    assert read(one).sum("requests_total") == 5
    assert len(list((tmp_path / "metrics").glob("*.values"))) == 1
    assert len(list((tmp_path / "metrics").glob("*.names"))) == 1
    assert not list((tmp_path / "metrics").glob("*.new"))


def test_a_process_killed_while_it_merges_counts_nothing_twice(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = start(), start()
    end(two)
    two.close()

    def fail(path: Path, missing_ok: bool = False) -> None:
        raise OSError(f"killed before {path.name} was removed")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", fail)
        with pytest.raises(OSError, match="killed"):
            one.merge_ended()
    assert read(one).sum("requests_total") == 1
    one.merge_ended()
    assert read(one).sum("requests_total") == 1


def test_sums_never_go_down_while_ended_processes_are_merged(start: Start) -> None:
    reader, merger = start(), start()
    seen = []
    stopping = threading.Event()

    def read_continuously() -> None:
        while not stopping.is_set():
            seen.append(reader.total().get((f.REQUESTS.name, ROUTE), [0.0])[0])

    thread = threading.Thread(target=read_continuously)
    thread.start()
    for _ in range(60):
        other = start()
        end(other)
        other.close()
        merger.merge_ended()
    stopping.set()
    thread.join()
    assert seen == sorted(seen)
    assert read(reader).sum("requests_total") == 60


ROUTE = ("chat", "debugging", "standard", "success")


def test_the_first_process_starts_from_zero(start: Start) -> None:
    one, two = start(), start()
    end(one)
    end(two)
    two.close()
    one.merge_ended()
    one.close()
    again = start()
    assert read(again).sum("requests_total") == 0
    end(again)
    assert read(start()).sum("requests_total") == 1


def test_a_killed_process_loses_no_counts(start: Start, tmp_path: Path) -> None:
    ours = start()
    script = (
        "import sys, os, django; django.setup()\n"
        "from pathlib import Path\n"
        "from llm_routing.metrics import Metrics\n"
        "from tests.metrics.test_processes import end\n"
        "metrics = Metrics(Path(sys.argv[1]))\n"
        "[end(metrics) for _ in range(7)]\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "metrics")]
    env = environment(tmp_path, "sqlite://:memory:", None)
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert read(ours).sum("processes") == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
    numbers = read(ours)
    assert numbers.sum("requests_total") == 7
    assert numbers.sum("processes") == 1
    ours.merge_ended()
    assert read(ours).sum("requests_total") == 7


def test_a_forked_child_does_not_change_the_parents_numbers(start: Start) -> None:
    ours = start()
    end(ours)
    child = os.fork()
    if child == 0:
        ours.forget()
        end(ours)
        alone = read(ours).sum("requests_total") == 1
        os._exit(0 if alone else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert read(ours).sum("requests_total") == 1
    assert read(start()).sum("processes") == 2


def test_names_beyond_the_limit_count_as_other(start: Start) -> None:
    metrics = start()
    for number in range(MAX_TARGETS + 50):
        opened = attempt(f"provider-{number}", f"model-{number}")
        metrics.opened(opened)
        settle(metrics, opened, "rate_limited")
        end(metrics, f"use-case-{number}")
    numbers = read(metrics)
    assert len(numbers.values("model")) == MAX_TARGETS + 1
    assert len(numbers.values("use_case")) == MAX_ROUTES + 1
    assert numbers.sum("attempts_total", model="other") == 50
    assert numbers.sum("requests_total", use_case="other") == 50
    assert numbers.sum("attempts_total") == numbers.sum("requests_total") == MAX_TARGETS + 50
    limited = MAX_TARGETS + 50 - MAX_PROVIDERS
    assert numbers.sum("attempt_errors_total", provider="other", code="rate_limited") == limited
    assert numbers.sum("attempts_in_progress") == 0


def test_an_unknown_code_is_counted_as_other(start: Start) -> None:
    metrics = start()
    end(metrics, error_code="invented")
    end(metrics, error_code="internal_error")
    numbers = read(metrics)
    assert numbers.values("code") == {"other", "internal_error"}


def test_the_most_names_there_may_be_fit() -> None:
    of_target = (
        *[f.ATTEMPTS] * 3, *[f.TOKENS] * 4, *[f.BREAKER_STATE] * len(BreakerState),
        f.ATTEMPT_DURATION, f.TIME_TO_FIRST_TOKEN, f.COST, f.FALLBACKS, f.BREAKER_OPENINGS,
        f.ATTEMPTS_IN_PROGRESS,
    )  # fmt: skip
    of_route = (*[f.REQUESTS] * 3, f.REQUEST_DURATION, f.OVERHEAD)
    needed = (
        (MAX_TARGETS + 1) * sum(family.size for family in of_target)
        + (MAX_ROUTES + 1) * sum(family.size for family in of_route)
        + (MAX_PROVIDERS + 2) * (len(ERRORS_BY_CODE) + 2)
    )
    assert needed < MAX_CELLS - 100


def test_counters_only_go_up_whatever_a_vendor_counts(start: Start) -> None:
    metrics = start()
    opened = attempt()
    metrics.opened(opened)
    usage = Usage(-5, -5, -5, 0, -5)
    metrics.settled(
        AttemptSettled(opened, AttemptOutcome.SUCCESS, "", 200, usage, Decimal(-1), 1, None)
    )
    numbers = read(metrics)
    assert numbers.sum("tokens_total") == numbers.sum("cost_usd_total") == 0
    assert numbers.sum("attempts_total") == 1


def test_breakers_add_up_by_state_and_their_openings_survive_a_reset(start: Start) -> None:
    one, two = start(), start()
    status = BreakerStatus(BreakerState.OPEN, "timeout", 1, 1, 5, 5, openings=3)
    one.gauges = lambda: ProcessGauges(breakers={("openai", "gpt"): status})
    closed = BreakerStatus(BreakerState.CLOSED, "", 0, 0, 5, 0, openings=0)
    two.gauges = lambda: ProcessGauges(breakers={("openai", "gpt"): closed})
    two.sample()
    numbers = read(one)
    assert numbers.sum("breaker_state", state="open") == 1
    assert numbers.sum("breaker_state", state="closed") == 1
    assert numbers.sum("breaker_openings_total") == 3
    one.gauges = ProcessGauges
    numbers = read(one)
    assert numbers.sum("breaker_state", state="open") == 0
    assert numbers.sum("breaker_openings_total") == 3


def test_missed_calls_to_redis_and_pausing_processes_add_up(start: Start) -> None:
    one, two = start(), start()
    missed = {"away": 2, "skipped": 30}
    one.gauges = lambda: ProcessGauges(redis_missed=missed, redis_is_paused=True)
    two.gauges = lambda: ProcessGauges(redis_missed={"away": 1}, redis_forged=4)
    two.sample()
    numbers = read(one)
    assert numbers.sum("redis_calls_missed_total", reason="away") == 3
    assert numbers.sum("redis_calls_missed_total", reason="skipped") == 30
    assert numbers.sum("redis_paused") == 1
    assert numbers.sum("redis_values_refused_total") == 4


def test_queues_add_up_and_rejections_survive_their_router(start: Start) -> None:
    one, two = start(), start()
    limits = {
        ("process", "", 0): LimitStatus(in_use=9, queued=3, shed=5),
        ("provider", "openai", 1): LimitStatus(in_use=9, queued=1, shed=2),
        ("provider", "openai", 2): LimitStatus(in_use=9, queued=1, shed=2),
    }
    one.gauges = two.gauges = lambda: ProcessGauges(limits=limits)
    two.sample()
    numbers = read(one)
    assert numbers.sum("queued_requests", where="process", provider="") == 6
    assert numbers.sum("queued_requests", where="provider", provider="openai") == 4
    assert numbers.sum("shed_total", where="provider") == 8
    one.gauges = two.gauges = ProcessGauges
    two.sample()
    numbers = read(one)
    assert numbers.sum("queued_requests") == 0
    assert numbers.sum("shed_total") == 18


def test_a_process_without_a_writable_directory_counts_only_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics").write_text("a file")
    with caplog.at_level(logging.ERROR, "llm_routing"):
        metrics = Metrics(tmp_path / "metrics")
    assert "not shared with other processes" in caplog.text
    end(metrics)
    metrics.merge_ended()
    assert read(metrics).sum("requests_total") == 1


def test_series_of_another_release_are_left_out(start: Start, tmp_path: Path) -> None:
    ours, other = start(), start()
    end(other)
    directory = tmp_path / "metrics"
    [names] = [path for path in directory.glob("*.names") if b"debugging" in path.read_bytes()]
    lines = [
        json.dumps([900, 1, "llm_routing_unheard_of_total", ["x"]]),
        json.dumps([901, 3, "llm_routing_cost_usd_total", ["a", "b"]]),
        json.dumps([905, 1, "llm_routing_cost_usd_total", ["a", "b", "c"]]),
        "[1, 2, cut",
        "[1, 2, also cu",
    ]
    with names.open("a") as file:
        file.write("\n".join(lines))
    assert read(ours).sum("requests_total") == 1
    (directory / "ended.json").write_text('{"merged": 1, "series": [[1]]}')
    assert read(ours).sum("requests_total") == 1


def test_only_the_owner_can_read_the_files(start: Start, tmp_path: Path) -> None:
    one, two = start(), start()
    two.close()
    one.merge_ended()
    directory = tmp_path / "metrics"
    assert directory.stat().st_mode & 0o77 == 0
    assert {path.stat().st_mode & 0o77 for path in directory.iterdir()} == {0}


def test_only_one_process_merges_at_a_time(start: Start, tmp_path: Path) -> None:
    ours, ended = start(), start()
    end(ended)
    ended.close()
    with lock_file(tmp_path / "metrics" / LOCK) as is_locked:
        assert is_locked
        ours.merge_ended()
        assert len(list((tmp_path / "metrics").glob("*.names"))) == 2
        assert read(start()).sum("requests_total") == 1
