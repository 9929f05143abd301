"""Processes that migrate one empty database at the same time."""

import subprocess
import sys
import threading

import pytest
from django.core.management import CommandError
from django.db import connection

from llm_routing.management.migration_lock import migration_lock

from .conftest import NewHost

PROCESSES = 5


def test_of_five_processes_one_migrates_and_all_succeed(new_host: NewHost) -> None:
    host = new_host()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "django", "llm_migrate", "--noinput"],
            cwd=host.directory,
            env=dict(host.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES, outputs
    applied = [output for output in outputs if "Applying llm_routing.0001_initial" in output]
    assert len(applied) == 1
    assert host.manage("migrate", "--check").returncode == 0
    assert not list(host.directory.glob("**/*.migrating"))


@pytest.mark.django_db(transaction=True)
def test_waiting_too_long_raises_an_error() -> None:
    holding, done = threading.Event(), threading.Event()
    told: list[str] = []

    def hold() -> None:
        with migration_lock("default", 60, lambda: None):
            holding.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert holding.wait(60)
        with (
            pytest.raises(CommandError, match="Another process has been migrating"),
            migration_lock("default", 0.6, lambda: told.append("waiting")),
        ):
            pass
    finally:
        done.set()
        holder.join()
    assert told == ["waiting"]
    with migration_lock("default", 60, lambda: None):
        assert connection.alias == "default"
