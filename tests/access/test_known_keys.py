"""Usable API keys are kept on disk for a start without the database; revoked ones are not."""

import fcntl
import stat
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError
from django.utils import timezone

from llm_routing.access import key_lookups, known_keys
from llm_routing.access.api_keys import ApiKeyCache
from llm_routing.access.known_keys import KnownKeysFile
from llm_routing.core.errors import AccessUnavailable, Unauthenticated
from llm_routing.core.types import Caller
from llm_routing.models import ApiKey

pytestmark = pytest.mark.django_db(transaction=True)


class Process:
    """The cache of one process, and the file that it shares with the others."""

    def __init__(self, path: Path) -> None:
        self.cache = ApiKeyCache()
        self.file = KnownKeysFile(path, self.cache)
        self.file.load()

    def authenticate(self, key: str) -> Caller:
        return async_to_sync(self.cache.authenticate)(key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "known_keys"


def issue(name: str, **values: object) -> str:
    key, clear_text = ApiKey.objects.issue(name, tenant="acme")
    for field, value in values.items():
        setattr(key, field, value)
    key.save()
    return clear_text


def serve(path: Path, *keys: str) -> None:
    """Runs a process that serves these keys and ends."""
    process = Process(path)
    for key in keys:
        process.authenticate(key)
    process.file.save(at_once=True)


@pytest.fixture
def unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(digests: Sequence[str]) -> dict[str, ApiKey]:
        raise OperationalError("no connection")

    monkeypatch.setattr(key_lookups, "find_usable_keys", fail)


def test_a_known_key_is_accepted_while_the_database_is_unavailable(
    path: Path, request: pytest.FixtureRequest
) -> None:
    key, unseen = issue("ann", deadline=7.5), issue("bob")
    serve(path, key)
    request.getfixturevalue("unavailable")
    process = Process(path)
    assert process.authenticate(key) == Caller("acme", "ann", 7.5)
    with pytest.raises(AccessUnavailable):
        process.authenticate(unseen)


def test_others_can_read_nothing_in_the_file(path: Path) -> None:
    key = issue("ann")
    serve(path, key)
    digest = ApiKey.objects.get().digest
    content = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for secret in (key, key[7:19], digest, "ann", "acme"):
        assert secret not in content
    assert {entry.name for entry in path.parent.iterdir()} == {"known_keys"}


def test_keys_from_the_file_are_checked_if_the_database_is_available(path: Path) -> None:
    key = issue("ann")
    serve(path, key)
    ApiKey.objects.update(is_active=False)
    with pytest.raises(Unauthenticated):
        Process(path).authenticate(key)


@pytest.mark.parametrize("how", ["revoked", "deleted", "replaced"])
def test_an_unusable_key_is_removed_from_the_file_and_from_memory(
    path: Path, how: str, request: pytest.FixtureRequest
) -> None:
    key, other = issue("ann"), issue("bob")
    serve(path, key, other)
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
    request.getfixturevalue("unavailable")
    for process in (running, Process(path)):
        with pytest.raises(AccessUnavailable):
            process.authenticate(key)
        assert process.authenticate(other).key_name == "bob"


def test_an_expired_key_is_refused_without_the_database(
    path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    key = issue("ann", expires_at=now + timedelta(hours=1))
    serve(path, key)
    request.getfixturevalue("unavailable")
    assert Process(path).authenticate(key).key_name == "ann"
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(hours=2))
    with pytest.raises(Unauthenticated, match="expired"):
        Process(path).authenticate(key)


def test_every_process_adds_the_keys_it_has_served(
    path: Path, request: pytest.FixtureRequest
) -> None:
    first, second = Process(path), Process(path)
    keys = [issue("ann"), issue("bob")]
    for process, key in zip((first, second), keys, strict=True):
        process.authenticate(key)
        process.file.save(at_once=True)
    request.getfixturevalue("unavailable")
    third = Process(path)
    assert [third.authenticate(key).key_name for key in keys] == ["ann", "bob"]


def test_the_keys_used_last_are_kept(
    path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "MAX_KNOWN", 2)
    keys = [issue(name) for name in ("ann", "bob", "cleo")]
    serve(path, *keys)
    request.getfixturevalue("unavailable")
    process = Process(path)
    with pytest.raises(AccessUnavailable):
        process.authenticate(keys[0])
    assert [process.authenticate(key).key_name for key in keys[1:]] == ["bob", "cleo"]


def test_nothing_is_written_without_a_change(path: Path) -> None:
    process = Process(path)
    process.file.save()
    before = path.stat().st_mtime_ns, path.stat().st_ino
    process.file.save(at_once=True)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_a_process_retries_if_another_holds_the_lock(path: Path) -> None:
    process = Process(path)
    process.authenticate(issue("ann"))
    path.parent.mkdir(parents=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process.file.save()
        assert not path.exists()
    process.file.save()
    assert path.exists()


def test_a_file_sealed_with_another_key_is_ignored(
    path: Path, settings, caplog: pytest.LogCaptureFixture
) -> None:
    key = issue("ann")
    serve(path, key)
    settings.SECRET_KEY = "another-secret-key-that-cannot-open-the-file"
    process = Process(path)
    assert process.cache.digests() == ()
    assert "known API keys cannot be read" in caplog.text
    process.file.save()
    assert Process(path).cache.digests() == ()


def test_an_unwritable_directory_only_logs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    process = Process(tmp_path / "state" / "known_keys")
    key = issue("ann")
    assert process.authenticate(key).key_name == "ann"
    process.file.save()
    assert "cannot be kept" in caplog.text
