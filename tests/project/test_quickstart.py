"""`make run` after the installation: its output, and every other command of the clone."""

import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from project.processes import free_port
from project.quickstart import Login, administrator
from tests.servers import INHERITED, START_SECONDS, Server, manage, serving

IN_PROCESS = """
from llm_routing import get_llm_router
import asyncio
async def main():
    router = await get_llm_router()
    print((await router.complete("Hi", use_case="debugging")).content)
asyncio.run(main())
"""


@pytest.fixture
def environ(tmp_path):
    """A newcomer's environment: no setting and no key."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return kept | {"DJANGO_VAR_DIR": str(tmp_path / "var"), "PYTHONUNBUFFERED": "1"}


@contextmanager
def running(environ: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    """A running `make run`; entered once it serves."""
    port = free_port()
    command = [sys.executable, "-m", "project.quickstart"]
    with serving(
        command,
        port=port,
        log=tmp_path / f"run-{port}.log",
        env=environ | {"PORT": str(port)},
        ready_path="/api/llm/health",
    ) as server:
        deadline = time.monotonic() + START_SECONDS
        while "Serving. Ctrl-C" not in server.output():
            assert server.process.poll() is None, server.output()
            assert time.monotonic() < deadline, server.output()
            time.sleep(0.1)
        yield server


@pytest.fixture
def run(environ, tmp_path):
    """A running `make run` on a fresh clone."""
    with running(environ, tmp_path) as server:
        yield server


def words_after(label: str, output: str) -> list[str]:
    """Returns the first word after each occurrence of `label`."""
    return re.findall(rf"{label} +(\S+)", output)


def test_a_second_run_keeps_the_administrator_and_the_key_and_says_so(environ, tmp_path):
    with running(environ, tmp_path) as server:
        first = server.output()
    with running(environ, tmp_path) as server:
        second = server.output()
    (password,) = words_after("password", first)
    assert words_after("login", first) == words_after("login", second) == ["admin"]
    assert "(shown this once)" not in second
    assert "password as before" in second
    assert "manage.py changepassword admin" in second
    keys = re.findall(r"^  (sk-llm-\S+)$", first + second, re.MULTILINE)
    assert keys == [keys[0]] * 2
    check = (
        "from django.contrib.auth import get_user_model as m; (u,) = m().objects.all(); "
        f"print(u.check_password({password!r}))"
    )
    assert manage(environ, "shell", "-v", "0", "-c", check).strip() == "True"


@pytest.mark.django_db
def test_an_administrator_is_created_if_no_user_can_sign_in_to_the_admin(django_user_model):
    django_user_model.objects.create_user("admin")
    django_user_model.objects.create_superuser("gone", is_active=False)
    created = administrator()
    assert created.name not in ("admin", "gone")
    assert created.password
    user = django_user_model.objects.get(username=created.name)
    assert user.is_superuser
    assert user.check_password(created.password)
    assert created.password not in repr(created)
    assert administrator() == Login(created.name)


def test_it_shows_its_steps_and_a_completion_and_every_command_has_its_settings(
    run, environ, tmp_path
):
    output = run.output()
    steps = [
        "Writing development settings",
        "Creating or updating the database",
        "Writing providers, models and routes",
        "Starting the sandbox",
        "Starting the server",
        "A routed completion:",
    ]
    places = [output.find(step) for step in steps]
    assert -1 not in places, output
    assert places == sorted(places)

    kept = tmp_path / "var" / "development.env"
    assert "DJANGO_DEBUG=1" in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    assert "sandbox" in manage(environ, "llm_health_sweep")
    assert "sandbox" in manage(environ, "llm_discover_models")
    assert manage(environ, "shell", "-v", "0", "-c", IN_PROCESS).strip()


def test_a_variable_that_is_set_comes_before_the_file(environ, tmp_path):
    directory = tmp_path / "var"
    directory.mkdir()
    (directory / "development.env").write_bytes(b"# note\r\nDJANGO_DEBUG=1\r\n")
    show = ("shell", "-v", "0", "-c", "from django.conf import settings; print(settings.DEBUG)")
    assert manage(environ, *show).strip() == "True"
    assert manage(environ | {"DJANGO_DEBUG": "0"}, *show).strip() == "False"


def test_values_from_a_file_with_windows_line_ends_are_read(environ):
    windows = {
        "ENABLE_MONITORING": "true\r",
        "DJANGO_DEBUG": "1\r",
        "CACHE_TTL": "60\r",
        "LLM_ALLOWED_UPSTREAM_NETWORKS": "127.0.0.0/8\r",
        "DJANGO_ALLOWED_HOSTS": "localhost\r",
    }
    show = "from django.conf import settings as s; from llm_routing.conf import get_settings as g; "
    show += "print(g().enable_monitoring, s.DEBUG, g().cache_ttl, s.ALLOWED_HOSTS)"
    found = manage(environ | windows, "shell", "-v", "0", "-c", show)
    assert found.strip() == "True True 60 ['localhost']"
