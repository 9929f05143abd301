"""Good API keys outlive the process: for a start without the database, and never a revoked one."""

import fcntl
import stat
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError
from django.utils import timezone

from llm_routing.access import api_keys as access
from llm_routing.access import known_keys
from llm_routing.access.api_keys import ApiKeyCache
from llm_routing.access.known_keys import KnownKeysFile
from llm_routing.core.errors import AccessUnavailable, Unauthenticated
from llm_routing.core.types import Caller
from llm_routing.models import ApiKey

pytestmark = pytest.mark.django_db(transaction=True)


class Process:
    """The ring of one process, and the file that it has in common with the others."""

    def __init__(self, path: Path) -> None:
        self.ring = ApiKeyCache()
        self.file = KnownKeysFile(path, self.ring)
        self.file.load()

    def ask(self, key: str) -> Caller:
        return async_to_sync(self.ring.authenticate)(key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "known_keys"


def issue(name: str, **values: object) -> str:
    key, clear_text = ApiKey.objects.issue(name, tenant="acme")
    for field, value in values.items():
        setattr(key, field, value)
    key.save()
    return clear_text


def seen(path: Path, *keys: str) -> None:
    """A process that has served these keys, and has ended."""
    process = Process(path)
    for key in keys:
        process.ask(key)
    process.file.save(at_once=True)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(digests: Sequence[str]) -> dict[str, ApiKey]:
        raise OperationalError("no connection")

    monkeypatch.setattr(access, "_query", fail)


def test_a_key_that_was_seen_is_believed_while_the_database_is_away(
    path: Path, request: pytest.FixtureRequest
) -> None:
    key, unseen = issue("ann", deadline=7.5), issue("bob")
    seen(path, key)
    request.getfixturevalue("away")
    process = Process(path)
    assert process.ask(key) == Caller("acme", "ann", 7.5)
    with pytest.raises(AccessUnavailable):
        process.ask(unseen)


def test_nothing_in_the_file_can_be_read_by_others(path: Path) -> None:
    key = issue("ann")
    seen(path, key)
    digest = ApiKey.objects.get().digest
    content = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for secret in (key, key[7:19], digest, "ann", "acme"):
        assert secret not in content
    assert {entry.name for entry in path.parent.iterdir()} == {"known_keys", "known_keys.lock"}


def test_what_the_file_says_is_checked_where_the_database_is_there(path: Path) -> None:
    key = issue("ann")
    seen(path, key)
    ApiKey.objects.update(is_active=False)
    with pytest.raises(Unauthenticated):
        Process(path).ask(key)


@pytest.mark.parametrize("how", ["revoked", "deleted", "replaced"])
def test_a_key_that_is_good_no_more_leaves_the_file_and_the_memory_of_all(
    path: Path, how: str, request: pytest.FixtureRequest
) -> None:
    key, other = issue("ann"), issue("bob")
    seen(path, key, other)
    running = Process(path)
    row = ApiKey.objects.get(name="ann")
    if how == "deleted":
        row.delete()
    elif how == "revoked":
        row.is_active = False
        row.save()
    else:
        row.renew()
        row.save()
    running.file.outdate()
    running.file.save()
    request.getfixturevalue("away")
    for process in (running, Process(path)):
        with pytest.raises(AccessUnavailable):
            process.ask(key)
        assert process.ask(other).key_name == "bob"


def test_a_key_past_its_date_is_refused_without_the_database_too(
    path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    key = issue("ann", expires_at=now + timedelta(hours=1))
    seen(path, key)
    request.getfixturevalue("away")
    assert Process(path).ask(key).key_name == "ann"
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(hours=2))
    with pytest.raises(Unauthenticated, match="expired"):
        Process(path).ask(key)


def test_processes_add_to_what_the_others_have_seen(
    path: Path, request: pytest.FixtureRequest
) -> None:
    first, second = Process(path), Process(path)
    keys = [issue("ann"), issue("bob")]
    for process, key in zip((first, second), keys, strict=True):
        process.ask(key)
        process.file.save(at_once=True)
    request.getfixturevalue("away")
    third = Process(path)
    assert [third.ask(key).key_name for key in keys] == ["ann", "bob"]


def test_those_used_last_are_kept(
    path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "MAX_KNOWN", 2)
    keys = [issue(name) for name in ("ann", "bob", "cleo")]
    seen(path, *keys)
    request.getfixturevalue("away")
    process = Process(path)
    with pytest.raises(AccessUnavailable):
        process.ask(keys[0])
    assert [process.ask(key).key_name for key in keys[1:]] == ["bob", "cleo"]


def test_without_news_nothing_is_written(path: Path) -> None:
    process = Process(path)
    process.file.save()
    before = path.stat().st_mtime_ns, path.stat().st_ino
    process.file.save(at_once=True)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_a_process_that_finds_another_at_it_comes_back(path: Path) -> None:
    process = Process(path)
    process.ask(issue("ann"))
    path.parent.mkdir(parents=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process.file.save()
        assert not path.exists()
    process.file.save()
    assert path.exists()


def test_a_file_of_somebody_else_s_is_none(
    path: Path, settings, caplog: pytest.LogCaptureFixture
) -> None:
    key = issue("ann")
    seen(path, key)
    settings.SECRET_KEY = "another-secret-key-that-opens-nothing-of-the-first"
    process = Process(path)
    assert process.ring.digests() == ()
    assert "known API keys cannot be read" in caplog.text
    process.file.save()
    assert Process(path).ring.digests() == ()


def test_a_directory_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    process = Process(tmp_path / "state" / "known_keys")
    key = issue("ann")
    assert process.ask(key).key_name == "ann"
    process.file.save()
    assert "cannot be kept" in caplog.text
