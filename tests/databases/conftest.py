"""A host project with its own settings, on the database of the test run."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from uuid import uuid4

import dj_database_url
import pytest

from project.processes import ROOT
from tests.conftest import create_database
from tests.servers import Server, environment
from tests.services import Services

SETTINGS = """
import pymysql
pymysql.install_as_MySQLdb()
SECRET_KEY = "a-key-for-tests-alone-that-guards-nothing-at-all"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
    "django.contrib.sessions", "django.contrib.messages", "simple_history", "llm_routing",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "host_urls"
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
STATIC_URL = "/static/"
"""
URLS = """
from django.contrib import admin
from django.urls import include, path
urlpatterns = [path("admin/", admin.site.urls), path("", include("llm_routing.urls"))]
"""


@dataclass(frozen=True, slots=True)
class Host:
    """The project's directory and the environment that its processes run in."""

    directory: Path
    env: Mapping[str, str]

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a management command to its end."""
        return self._run("-m", "django", *arguments)

    def script(self, text: str) -> subprocess.CompletedProcess[str]:
        """Runs Python after `django.setup()`."""
        return self._run("-c", f"import django; django.setup()\n{dedent(text)}")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=dict(self.env),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


NewHost = Callable[..., Host]


@pytest.fixture
def new_database(services: Services | None, tmp_path: Path) -> Callable[[], str]:
    """Creates an empty database and returns its URL."""

    def create() -> str:
        name = f"host_{uuid4().hex[:12]}"
        if services is None:
            return f"sqlite:///{tmp_path / name}.sqlite3"
        return create_database(services.database_url, name)

    return create


@pytest.fixture
def new_host(tmp_path: Path, sandbox: Server, new_database: Callable[[], str]) -> NewHost:
    """Writes a project. `databases` are aliases, each of an empty database; `settings` is the end
    of its settings file."""

    def write(settings: str = "", databases: tuple[str, ...] = ("default",)) -> Host:
        entries = {alias: entry_of(new_database()) for alias in databases}
        (tmp_path / "host_settings.py").write_text(
            f"{SETTINGS}\nDATABASES = {entries!r}\n{dedent(settings)}"
        )
        (tmp_path / "host_urls.py").write_text(URLS)
        env = environment(tmp_path, "", None, LLM_SANDBOX_URL=sandbox.url) | {
            "DJANGO_SETTINGS_MODULE": "host_settings",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            "LLM_STATE_DIR": str(tmp_path / "state"),
            "PYTHONWARNINGS": "error::RuntimeWarning",
        }
        return Host(tmp_path, env)

    return write


def entry_of(url: str) -> dict[str, object]:
    """The entry of DATABASES as a project without our `environment` has it."""
    entry: dict[str, object] = dict(dj_database_url.parse(url))
    if url.startswith("mysql"):
        entry["OPTIONS"] = {
            "init_command": "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')"
        }
    return entry
