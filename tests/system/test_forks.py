"""State that a forked child must not inherit, and locks held during a fork."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from django.db import OperationalError

import llm_routing.factory  # noqa: F401  # imports every module that has a fork handler
from llm_routing.configuration.snapshot import EMPTY_SNAPSHOT, SnapshotOrigin
from llm_routing.core.ids import new_id
from llm_routing.core.timers import running_loop
from llm_routing.models import ConfigurationVersion
from llm_routing.process.state import process_state
from llm_routing.system.forks import ForkHandlers, Stage, forks
from llm_routing.system.loops import background_loop, run_sync, stop_background_loop
from llm_routing.system.threads import BackgroundThread, OnePerProcess
from project.processes import ROOT


class WatchedLock:
    """Notes when it is acquired and released."""

    def __init__(self, name: str, events: list[str]) -> None:
        self._name = name
        self._events = events
        self._lock = threading.Lock()

    def acquire(self) -> None:
        self._lock.acquire()
        self._events.append(f"acquire {self._name}")

    def release(self) -> None:
        self._lock.release()
        self._events.append(f"release {self._name}")


def exit_status_of_child(work: Callable[[], bool]) -> int:
    """Forks a child, which exits with 0 if `work` returns True there."""
    child = os.fork()
    if not child:
        signal.alarm(60)  # a deadlock ends the child
        status = 1
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def held_by_another_thread(lock: threading.Lock) -> Iterator[None]:
    acquired, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            acquired.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert acquired.wait(90)
    try:
        yield
    finally:
        release.set()
        thread.join()


def test_every_stage_has_a_handler() -> None:
    assert forks.stages == list(Stage)


def test_nothing_else_registers_with_the_interpreter() -> None:
    modules = (ROOT / "llm_routing").rglob("*.py")
    users = [path.name for path in modules if "register_at_fork(" in path.read_text()]
    assert users == ["forks.py"]


def test_locks_are_acquired_in_order_and_the_child_is_reset_before_they_are_released() -> None:
    events: list[str] = []
    handlers = ForkHandlers()
    # Added in another order than that of the stages.
    for stage in (Stage.EVENT_LOOP, Stage.ROUTERS, Stage.BACKGROUND):
        handlers.add(
            stage,
            lambda stage=stage: events.append(f"reset {stage.name}"),  # type: ignore[misc]
            locks=[WatchedLock(stage.name, events)],  # type: ignore[list-item]
        )
    handlers.before()
    held = ["acquire ROUTERS", "acquire BACKGROUND", "acquire EVENT_LOOP"]
    assert events == held
    handlers.after_in_child()
    assert events[3:] == [
        "reset ROUTERS",
        "reset BACKGROUND",
        "reset EVENT_LOOP",
        "release EVENT_LOOP",
        "release BACKGROUND",
        "release ROUTERS",
    ]
    events.clear()
    handlers.before()
    handlers.after_in_parent()
    assert events == [*held, "release EVENT_LOOP", "release BACKGROUND", "release ROUTERS"]


def test_a_reset_that_fails_stops_no_other_and_releases_the_locks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    resets: list[str] = []

    def fail() -> None:
        raise ValueError

    lock = threading.Lock()
    handlers = ForkHandlers()
    handlers.add(Stage.ROUTERS, fail, locks=[lock])
    handlers.add(Stage.CORE, lambda: resets.append("core"))
    handlers.before()
    handlers.after_in_child()
    assert resets == ["core"]
    assert "could not reset ROUTERS" in caplog.text
    assert not lock.locked()


def test_a_fork_waits_for_a_lock_that_another_thread_holds() -> None:
    lock = threading.Lock()
    handlers = ForkHandlers()
    handlers.add(Stage.ROUTERS, lambda: None, locks=[lock])
    forking = threading.Thread(target=handlers.before)
    with held_by_another_thread(lock):
        forking.start()
        assert forking.is_alive()
    forking.join(90)
    assert not forking.is_alive()
    handlers.after_in_parent()


def test_a_child_starts_a_thread_of_its_own() -> None:
    started: list[int] = []
    seen = threading.Event()

    def run(stopping: threading.Event) -> None:
        started.append(os.getpid())
        seen.set()
        stopping.wait(60)

    def child() -> bool:
        handlers.after_in_child()
        seen.clear()
        theirs = service.ensure(lambda: BackgroundThread("test", run))
        is_own = theirs is not ours and seen.wait(90) and started[-1] == os.getpid()
        service.stop()
        return is_own

    handlers = ForkHandlers()
    service: OnePerProcess[BackgroundThread] = OnePerProcess(Stage.SWEEPER, handlers=handlers)
    ours = service.ensure(lambda: BackgroundThread("test", run))
    assert service.ensure(lambda: BackgroundThread("test", run)) is ours
    assert seen.wait(90)
    handlers.before()
    assert exit_status_of_child(child) == 0
    handlers.after_in_parent()
    service.stop()
    assert started == [os.getpid()]


def test_a_child_of_a_process_with_a_background_loop_has_its_own() -> None:
    async def answer() -> int:
        return os.getpid()

    assert run_sync(answer()) == os.getpid()
    ours = background_loop()
    assert (
        exit_status_of_child(
            lambda: run_sync(answer()) == os.getpid() and background_loop() is not ours
        )
        == 0
    )
    assert background_loop() is ours
    stop_background_loop()


def test_requests_and_refused_keys_of_the_parent_do_not_count_in_the_child() -> None:
    assert process_state.body_budget.take("key", 1000) is None
    process_state.refused_keys.counts["unknown"] += 1
    try:
        assert (
            exit_status_of_child(
                lambda: (
                    process_state.body_budget.bytes == 0
                    and set(process_state.refused_keys.counts.values()) == {0}
                )
            )
            == 0
        )
        assert process_state.body_budget.bytes == 1000
    finally:
        process_state.body_budget.release("key", 1000)
        process_state.refused_keys.reset()


def test_a_child_does_not_wait_for_a_refresh_that_its_parent_was_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, finish = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        reading.set()
        finish.wait(60)
        raise OperationalError

    snapshots = process_state.snapshots
    known = replace(EMPTY_SNAPSHOT, origin=SnapshotOrigin.STATIC)
    monkeypatch.setattr(snapshots, "current", known)
    monkeypatch.setattr(ConfigurationVersion.objects, "version_and_stamp", slow)
    thread = threading.Thread(target=snapshots.refresh)
    thread.start()
    assert reading.wait(90)

    def child() -> bool:
        snapshots.mark_unconfirmed()
        return not snapshots.current.is_confirmed

    assert exit_status_of_child(child) == 0
    finish.set()
    thread.join()


def test_a_child_has_ids_of_its_own() -> None:
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, " ".join(new_id() for _ in range(200)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = set(pipe.read().split())
    os.waitpid(child, 0)
    assert len(theirs) == 200
    assert not theirs & {new_id() for _ in range(200)}


def test_a_child_forked_in_a_running_event_loop_finds_its_own_loop() -> None:
    async def is_right() -> bool:
        return running_loop() is running_loop() is asyncio.get_running_loop()

    def in_child() -> bool:
        asyncio.events._set_running_loop(None)
        return asyncio.run(is_right())

    async def fork() -> int:
        running_loop()
        return exit_status_of_child(in_child)

    assert asyncio.run(fork()) == 0
