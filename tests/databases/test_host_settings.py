"""Whatever a project's settings are, calls are recorded and the admin works."""

import pytest

from .conftest import Host, NewHost

# Sets the project up, makes a call, and reads the results.
WORKS = """
import asyncio
from datetime import datetime, timedelta, UTC
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.test.utils import setup_test_environment
from django.utils import timezone

for alias in settings.DATABASES:
    if not settings.DATABASES[alias].get("ENGINE", "dummy").endswith("dummy"):
        call_command("migrate", database=alias, verbosity=0)
call_command("check", "--fail-level", "ERROR")
call_command("setup_llm_configuration", verbosity=0)
call_command("create_llm_key", "ours", "--expires", "3")

from llm_routing import get_llm_router_sync
from llm_routing.factory import close_routers
from llm_routing.models import ApiKey, Provider, UsageRecord
before = datetime.now(UTC)
answer = get_llm_router_sync().complete_sync("Hi", use_case="debugging")
assert answer.content
asyncio.run(close_routers())
record = UsageRecord.objects.get()
from llm_routing.models.databases import as_utc
assert abs(as_utc(record.started_at) - before) < timedelta(minutes=1), record.started_at
assert record.output_tokens > 0

from llm_routing.factory import sweep_health
from llm_routing.health.sweep import Selection
assert sweep_health(Selection()).results
from llm_routing.models import HealthCheck
for check in HealthCheck.objects.all():
    age = abs(as_utc(check.checked_at) - datetime.now(UTC))
    assert age < timedelta(minutes=5), (check.checked_at, timezone.now())

users = get_user_model().objects
user = users.create_superuser("root", "root@example.com", "root")
setup_test_environment()
client = Client(raise_request_exception=True)
client.force_login(user)
row = Provider.objects.get(name="openai")
pages = ["usagerecord/", "provider/", "modelconfig/", "usecaseroute/", "apikey/", "healthcheck/",
         "breakerreport/", f"provider/{row.pk}/change/", "provider/?q=OPEN"]
for page in pages:
    response = client.get("/admin/llm_routing/" + page)
    assert response.status_code == 200, (page, response.status_code)
assert "openai" in response.content.decode()
page = client.get(f"/admin/llm_routing/provider/{row.pk}/change/")
data = {name: "" if value is None else value
        for name, value in page.context["adminform"].form.initial.items()}
data |= {"notes": "changed", "is_active": "on", "api_key": "", "_continue": "1"}
data = {k: v for k, v in data.items() if not hasattr(v, "isoformat")}
inline = page.context["inline_admin_formsets"]
for formset in inline:
    for name, value in formset.formset.management_form.initial.items():
        data[f"{formset.formset.prefix}-{name}"] = value
    data[f"{formset.formset.prefix}-INITIAL_FORMS"] = 0
    data[f"{formset.formset.prefix}-TOTAL_FORMS"] = 0
saved = client.post(f"/admin/llm_routing/provider/{row.pk}/change/", data)
assert saved.status_code == 302, saved.context["adminform"].form.errors
assert str(Provider.history.first().history_user) == "root"
history = client.get(f"/admin/llm_routing/provider/{row.pk}/history/")
assert "root" in history.content.decode()

key, text = ApiKey.objects.issue("http")
health = client.get("/api/llm/health", headers={"Authorization": "Bearer " + text})
assert health.status_code in (200, 503), health.content
print("works")
"""

# Each is a project's end of its settings file.
VARIANTS = {
    "no-time-zones": """
        USE_TZ = False
        TIME_ZONE = "Asia/Kolkata"
        """,
    "another-language": """
        TIME_ZONE = "America/New_York"
        LANGUAGE_CODE = "de"
        USE_THOUSAND_SEPARATOR = True
        FORCE_SCRIPT_NAME = "/below"
        APPEND_SLASH = False
        SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
        CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
        LOGGING_CONFIG = None
        DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
        """,
    "connections": """
        for entry in DATABASES.values():
            entry["CONN_MAX_AGE"] = None
            entry["CONN_HEALTH_CHECKS"] = True
            entry["DISABLE_SERVER_SIDE_CURSORS"] = True
            entry["TIME_ZONE"] = None
        """,
    "strict-isolation": """
        entry = DATABASES["default"]
        if entry["ENGINE"].endswith("mysql"):
            entry["OPTIONS"]["isolation_level"] = "serializable"
            entry["TIME_ZONE"] = "Asia/Kolkata"
        elif entry["ENGINE"].endswith("postgresql"):
            from django.db.backends.postgresql.psycopg_any import IsolationLevel
            entry["OPTIONS"] = {"isolation_level": IsolationLevel.SERIALIZABLE, "pool": True}
            entry["TIME_ZONE"] = "Asia/Kolkata"
        else:
            entry["OPTIONS"] = {"init_command": "PRAGMA journal_mode=WAL"}
            entry["TIME_ZONE"] = "Asia/Kolkata"
        """,
}


def assert_works(host: Host) -> None:
    ended = host.script(WORKS)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    assert ended.stdout.endswith("works\n")


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_calls_are_recorded_and_the_admin_works(new_host: NewHost, settings: str) -> None:
    assert_works(new_host(settings))


def test_our_tables_are_in_a_database_of_their_own(new_host: NewHost) -> None:
    host = new_host(
        """
        INSTALLED_APPS += ["people"]
        AUTH_USER_MODEL = "people.Person"
        DATABASE_ROUTERS = ["host_router.Router"]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        """,
        databases=("default", "llm"),
    )
    (host.directory / "host_router.py").write_text(ROUTER)
    write_people(host)
    assert_works(host)


def test_the_default_database_may_be_empty(new_host: NewHost) -> None:
    host = new_host(
        """
        DATABASES["default"] = {}
        DATABASE_ROUTERS = ["host_router.Router"]
        """,
        databases=("users", "llm"),
    )
    (host.directory / "host_router.py").write_text(ROUTER.replace('"default"', '"users"'))
    assert_works(host)


def test_nothing_of_the_configuration_is_read_from_a_replica(new_host: NewHost) -> None:
    """The replica here has the tables and none of the rows."""
    host = new_host('DATABASE_ROUTERS = ["host_router.Router"]', databases=("default", "replica"))
    (host.directory / "host_router.py").write_text(
        """
class Router:
    def db_for_read(self, model, **hints):
        is_ours = model._meta.app_label == "llm_routing"
        return "replica" if is_ours and model.__name__ != "UsageRecord" else "default"

    def db_for_write(self, model, **hints):
        return "default"

    def allow_relation(self, one, other, **hints):
        return True
"""
    )
    assert_works(host)


ROUTER = """
class Router:
    def _of(self, label):
        return "llm" if label == "llm_routing" else "default"

    def db_for_read(self, model, **hints):
        return self._of(model._meta.app_label)

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return db == self._of(app_label)
"""


def write_people(host: Host) -> None:
    """Writes an app with a user model whose primary key is a UUID."""
    app = host.directory / "people"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "models.py").write_text(
        """
import uuid
from django.contrib.auth.models import AbstractUser
from django.db import models

class Person(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
"""
    )
    made = host.manage("makemigrations", "people", "--verbosity=0")
    assert made.returncode == 0, made.stderr
