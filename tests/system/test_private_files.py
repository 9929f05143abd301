"""Only the owner of the process may read its files, whatever the umask."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from llm_routing.conf import get_settings
from llm_routing.ledger.segments import Segment
from llm_routing.system.private_files import (
    UnsafeDirectory,
    claim_directory,
    private_directory,
    restrict_to_owner,
    write_private,
)
from project.processes import ROOT

START = """
import os
os.umask(0)
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("setup_llm_configuration", verbosity=0)
from llm_routing import get_llm_router_sync
from llm_routing.process.background import stop_background
from llm_routing.models import ApiKey
from llm_routing.access.api_keys import api_keys
from asgiref.sync import async_to_sync
router = get_llm_router_sync()
_, key = ApiKey.objects.issue("ann")
async_to_sync(api_keys.authenticate)(key)
from llm_routing.core.ports import AttemptOpened
print("running")
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
    stop_background()
    found = [os.path.join(a, n) for a, b, c in os.walk(os.environ["DJANGO_VAR_DIR"]) for n in b + c]
    print(*(f"{os.lstat(f).st_mode:o} {f}" for f in found), sep="\\n")
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_can_read_files_of_the_shipped_project(tmp_path: Path) -> None:
    var = tmp_path / "var"
    # As created by an earlier release, or with another umask.
    (var / "llm_routing").mkdir(mode=0o755, parents=True)
    for name in ("db.sqlite3", "db.sqlite3-wal", "llm_routing/routing_table.json"):
        (var / name).touch(0o644)
    var.chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    env |= {"DJANGO_VAR_DIR": str(var), "DJANGO_SETTINGS_MODULE": "project.settings"}
    for name in ("DJANGO_SECRET_KEY", "REDIS_URL", "LLM_STATE_DIR"):
        env.pop(name, None)
    said = subprocess.run(
        [sys.executable, "-c", START],
        cwd=ROOT,
        check=False,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert said.returncode == 0, said.stderr
    lines = [line.split(" ", 1) for line in said.stdout.splitlines()[1:]]
    modes = {path: bits for bits, path in lines}
    names = {Path(path).name for path in modes}
    assert {
        "db.sqlite3",
        "db.sqlite3-wal",
        "secret_key",
        "routing_table.json",
        "known_keys",
    } <= names
    open_to_others = {path: bits for path, bits in modes.items() if int(bits, 8) & 0o077}
    assert not open_to_others
    assert mode(var) == 0o700


def test_missing_parents_are_private_and_existing_ones_stay(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        private_directory(tmp_path / "theirs" / "a" / "b")
    finally:
        os.umask(before)
    assert mode(tmp_path / "theirs") == 0o755
    assert mode(tmp_path / "theirs" / "a") == mode(tmp_path / "theirs" / "a" / "b") == 0o700


def test_a_file_is_replaced_whole_under_a_name_that_no_other_writer_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts: list[str] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        drafts.append(self.name)
        assert (tmp_path / "table").read_bytes() == b"before" * (not drafts[:-1]) + b"first" * bool(
            drafts[:-1]
        )
        return replace(self, target)

    (tmp_path / "table").write_bytes(b"before")
    monkeypatch.setattr(Path, "replace", watched)
    # As in two containers whose processes have the same ID.
    monkeypatch.setattr(os, "getpid", lambda: 1)
    write_private(tmp_path / "table", b"first")
    write_private(tmp_path / "table", b"second")
    assert len(set(drafts)) == 2
    assert (tmp_path / "table").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_no_name_of_a_segment_depends_on_the_process_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    segments = [Segment.create(tmp_path, 4096) for _ in range(3)]
    assert len({segment.path for segment in segments}) == 3
    for segment in segments:
        segment.close(remove=True)


def test_drafts_that_a_killed_process_left_go_in_time(tmp_path: Path) -> None:
    old, new = tmp_path / "a.draft", tmp_path / "b.draft"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    restrict_to_owner(tmp_path)
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize("kind", ["link", "file", "writable", "foreign"])
def test_a_state_directory_that_another_user_may_have_created_is_rejected(
    kind: str, tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("LLM_STATE_DIR", raising=False)
    path = tmp_path / f"llm_routing-{os.getuid()}"
    match kind:
        case "link":
            (tmp_path / "elsewhere").mkdir()
            path.symlink_to(tmp_path / "elsewhere")
        case "file":
            path.touch()
        case "writable":
            path.mkdir()
            path.chmod(0o777)
        case "foreign":
            path.mkdir(mode=0o700)
            monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(UnsafeDirectory):
        claim_directory(path)
    settings.LLM_ROUTING = {}
    del settings.BASE_DIR
    get_settings.cache_clear()
    with pytest.raises(ImproperlyConfigured, match=r"STATE_DIR.*Set LLM_STATE_DIR"):
        get_settings()
    assert "llm_routing.E001" in {found.id for found in checks.run_checks()}


def test_the_state_directory_in_tmp_is_made_at_once_and_closed_to_others(
    tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("LLM_STATE_DIR", raising=False)
    settings.LLM_ROUTING = {}
    del settings.BASE_DIR
    get_settings.cache_clear()
    path = get_settings().state_dir
    assert mode(path) == 0o700
    path.chmod(0o755)
    get_settings.cache_clear()
    assert get_settings().state_dir == path
    assert mode(path) == 0o700
