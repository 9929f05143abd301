"""The shipped project's use of its environment."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from project import environment
from project.processes import ROOT

FILE = Path("/nowhere/db.sqlite3")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_spelling_of_postgresql_gives_a_checked_pool(monkeypatch, scheme):
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://ann:p%40ss@db.example:5433/llm")
    settings = environment.database(FILE)
    assert settings["ENGINE"] == "django.db.backends.postgresql"
    assert (settings["USER"], settings["PASSWORD"]) == ("ann", "p@ss")
    assert (settings["HOST"], settings["PORT"], settings["NAME"]) == ("db.example", 5433, "llm")
    assert settings["CONN_HEALTH_CHECKS"] is True
    assert settings["CONN_MAX_AGE"] == 0
    assert settings["OPTIONS"]["pool"]["max_size"] == 10


def test_nothing_waits_for_postgresql_without_a_limit(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann@db/llm")
    options = environment.database(FILE)["OPTIONS"]
    assert (options["connect_timeout"], options["tcp_user_timeout"]) == (5, 15_000)
    assert "statement_timeout=15s" in options["options"]
    assert options["pool"]["connection_class"].limit == 17
    monkeypatch.setenv("DATABASE_TIMEOUT", "0")
    options = environment.database(FILE)["OPTIONS"]
    assert "options" not in options
    assert "connection_class" not in options["pool"]
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann@db/llm?connect_timeout=2")
    assert environment.database(FILE)["OPTIONS"]["connect_timeout"] == 2


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_mysql_is_strict_and_nothing_waits_for_it_without_a_limit(monkeypatch, scheme):
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://ann:p%40ss@db.example:3307/llm")
    settings = environment.database(FILE)
    assert settings["ENGINE"] == "django.db.backends.mysql"
    assert (settings["USER"], settings["PASSWORD"]) == ("ann", "p@ss")
    assert (settings["HOST"], settings["PORT"], settings["NAME"]) == ("db.example", 3307, "llm")
    options = settings["OPTIONS"]
    assert options["charset"] == "utf8mb4"
    assert "STRICT_TRANS_TABLES" in options["init_command"]
    assert "innodb_lock_wait_timeout = 15" in options["init_command"]
    assert (options["connect_timeout"], options["read_timeout"]) == (5, 17)
    monkeypatch.setenv("DATABASE_TIMEOUT", "0")
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://ann@db/llm?connect_timeout=2")
    options = environment.database(FILE)["OPTIONS"]
    assert options["connect_timeout"] == 2
    assert "read_timeout" not in options


def test_asyncpgs_ssl_option_becomes_libpqs_sslmode(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://ann@db/llm?ssl=require&target=a%26b")
    options = environment.database(FILE)["OPTIONS"]
    assert options["sslmode"] == "require"
    assert options["target"] == "a&b"
    assert "ssl" not in options


def test_without_a_url_sqlite_waits_for_its_writer(monkeypatch, tmp_path):
    monkeypatch.delenv("DATABASE_URL")
    settings = environment.database(tmp_path / "var" / "db.sqlite3")
    assert settings["ENGINE"] == "django.db.backends.sqlite3"
    assert settings["NAME"] == str(tmp_path / "var" / "db.sqlite3")
    assert settings["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in settings["OPTIONS"]["init_command"]
    assert (tmp_path / "var").is_dir()


def test_an_unknown_database_is_refused_without_telling_its_password(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "oracle://ann:hunter2@db/llm")
    with pytest.raises(ImproperlyConfigured, match="oracle") as error:
        environment.database(FILE)
    assert "hunter2" not in str(error.value)


def test_manage_py_prints_setting_errors_without_a_traceback():
    command = [sys.executable, "manage.py", "check"]
    environ = {**os.environ, "DATABASE_URL": "oracle://ann:hunter2@db/llm"}
    ended = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "DATABASE_URL begins with 'oracle'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr


def test_redis_holds_json(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://cache:6379/3")
    default = environment.caches()["default"]
    assert default["LOCATION"] == "redis://cache:6379/3"
    assert default["OPTIONS"]["SERIALIZER"].endswith("JSONSerializer")


def test_djangos_cache_follows_sentinels_and_stays_in_memory_beside_a_cluster(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis+sentinel://:pw@one,two:7000/cache/2")
    default = environment.caches()["default"]
    assert default["LOCATION"] == "redis://:pw@cache/2"
    assert default["OPTIONS"]["SENTINELS"] == [("one", 26379), ("two", 7000)]
    monkeypatch.setenv("REDIS_URL", "redis+cluster://one,two")
    assert "locmem" in environment.caches()["default"]["BACKEND"]
    monkeypatch.setenv("REDIS_URL", "redis+sentinel://:hunter2@one")
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL") as caught:
        environment.caches()
    assert "hunter2" not in str(caught.value)


def test_the_secret_key_is_made_once_and_private(monkeypatch, tmp_path):
    monkeypatch.delenv("DJANGO_SECRET_KEY")
    path = tmp_path / "var" / "secret_key"
    key = environment.secret_key(path)
    assert len(key) >= 50
    assert environment.secret_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["secret_key"]


def test_a_secret_key_of_the_environment_is_not_written_to_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("DJANGO_SECRET_KEY", "given")
    assert environment.secret_key(tmp_path / "secret_key") == "given"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("Yes", True), ("off", False), ("", False)]
)
def test_flags_read_as_people_write_them(monkeypatch, value, expected):
    monkeypatch.setenv("DJANGO_DEBUG", value)
    assert environment.flag("DJANGO_DEBUG") is expected


def test_a_misspelt_flag_is_refused(monkeypatch):
    monkeypatch.setenv("DJANGO_DEBUG", "ture")
    with pytest.raises(ImproperlyConfigured, match="DJANGO_DEBUG"):
        environment.flag("DJANGO_DEBUG")


@pytest.mark.parametrize("value", ["-1", "ten", "1.5", "²"])
def test_an_invalid_number_is_rejected(monkeypatch, value):
    monkeypatch.setenv("DATABASE_POOL_SIZE", value)
    with pytest.raises(ImproperlyConfigured, match="DATABASE_POOL_SIZE"):
        environment.number("DATABASE_POOL_SIZE", 10)


def test_hosts_come_as_a_list(monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOWED_HOSTS", " a.example, b.example,,")
    assert environment.words("DJANGO_ALLOWED_HOSTS") == ["a.example", "b.example"]
