"""The admin of a project with permissions per object: django-guardian's, or rules."""

import pytest

from .conftest import NewHost
from .test_host_settings import assert_works

GUARDIAN = """
INSTALLED_APPS += ["guardian"]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend", "guardian.backends.ObjectPermissionBackend",
]
"""
RULE = """
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "host_rule.OwnRows"]
"""
RULE_CODE = """
from django.contrib.auth.backends import BaseBackend

granted = set()

class OwnRows(BaseBackend):
    def has_perm(self, user, permission, row=None):
        return row is not None and (user.pk, permission, type(row), row.pk) in granted

def assign_perm(permission, user, row):
    granted.add((user.pk, permission, type(row), row.pk))
"""

SETUP = """
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import Client
from django.test.utils import setup_test_environment
from llm_routing.models import ApiKey, ModelConfig, Provider, RouteTarget, UseCaseRoute

call_command("migrate", verbosity=0)
setup_test_environment()
user = get_user_model().objects.create_user("bob", is_staff=True)
client = Client()
client.force_login(user)

def may_in_general(*codenames):
    for codename in codenames:
        user.user_permissions.add(Permission.objects.get(codename=codename))

def act(model, action, *rows, **more):
    data = {"action": action, "_selected_action": [row.pk for row in rows], **more}
    page = client.post(f"/admin/llm_routing/{model}/", data, follow=True)
    return [str(message) for message in page.context["messages"]]

def offered(model):
    form = client.get(f"/admin/llm_routing/{model}/").context["action_form"]
    return [name for name, _ in form.fields["action"].choices if name] if form else []

def get(model, row, page):
    return client.get(f"/admin/llm_routing/{model}/{row.pk}/{page}/")

mine = Provider.objects.create(name="mine", vendor="sandbox")
other = Provider.objects.create(name="other", vendor="sandbox")
model = ModelConfig.objects.create(provider=mine, model_id="m", capabilities=["chat"])
"""

ROWS = """
# Nothing without a permission in general or for a row.
assert client.get("/admin/llm_routing/provider/").status_code == 403
assign_perm("llm_routing.view_provider", user, mine)
assert get("provider", mine, "change").status_code == 200
assert get("provider", mine, "history").status_code == 200
for page in ("change", "history"):
    assert get("provider", other, page).status_code in (302, 403), page
assert get("provider", mine, "delete").status_code == 403

# Who may see the list is offered what he may do with one of the rows at least.
may_in_general("view_provider")
assert offered("provider") == []
for permission, actions in (
    ("change_provider", ["activate", "deactivate"]),
    ("delete_provider", ["delete_selected"]),
    ("discover_models", ["discover_models"]),
    ("check_health", ["check_health"]),
):
    before = offered("provider")
    assign_perm("llm_routing." + permission, user, mine)
    assert sorted(offered("provider")) == sorted(before + actions), permission

# An action does what it may and says what it left out.
LEFT_OUT = "1 row was left out: you do not have the permission for it."
assert act("provider", "deactivate", mine, other) == [LEFT_OUT, "1 row changed."]
assert set(Provider.objects.filter(is_active=True)) == {other}
act("provider", "activate", mine)
left_out, found = act("provider", "discover_models", mine, other)
assert left_out == LEFT_OUT and found.startswith("mine: "), found
assert act("provider", "check_health", mine, other)[0] == LEFT_OUT
from llm_routing.models import HealthCheck
assert set(HealthCheck.objects.values_list("provider", flat=True)) == {"mine"}

# A form is for writing where the row may be changed, and for reading elsewhere.
def address(row):
    return f"/admin/llm_routing/provider/{row.pk}/change/"

def change(row, notes):
    page = get("provider", row, "change")
    data = {name: "" if value is None else value
            for name, value in page.context["adminform"].form.initial.items()}
    data = {k: v for k, v in data.items() if not hasattr(v, "isoformat")}
    return client.post(address(row), data | {"notes": notes, "api_key": "", "is_active": "on"})

assert b'name="_save"' in get("provider", mine, "change").content
assert b'name="_save"' not in get("provider", other, "change").content
assert change(mine, "new").status_code == 302
assert client.post(address(other), {"notes": "x"}).status_code == 403
assert list(Provider.objects.order_by("name").values_list("notes", flat=True)) == ["new", ""]

# The permission to send keys of the environment anywhere is asked with the provider too.
def moved(row):
    page = get("provider", row, "change")
    data = {k: v for k, v in page.context["adminform"].form.initial.items()
            if v is not None and not hasattr(v, "isoformat")}
    return client.post(address(row), data | {
        "vendor": "openai", "base_url": "https://elsewhere.example/v1",
        "api_key_env": "OUR_API_KEY", "is_active": "on"})

assert "would be sent" in moved(mine).text
assign_perm("llm_routing.send_environment_keys", user, mine)
page = moved(mine)
assert page.status_code == 302, page.context["adminform"].form.errors

# The targets of a route go with the route.
route, foreign = (UseCaseRoute.objects.create(use_case=name) for name in ("debugging", "other"))
for each in (route, foreign):
    RouteTarget.objects.create(route=each, model=model)
may_in_general("view_usecaseroute", "view_modelconfig")
assign_perm("llm_routing.change_usecaseroute", user, route)

def with_target(row, weight):
    target = row.targets.get()
    return client.post(f"/admin/llm_routing/usecaseroute/{row.pk}/change/", {
        "use_case": row.use_case, "tier": row.tier, "stream_recovery": "error", "is_active": "on",
        "targets-TOTAL_FORMS": 1, "targets-INITIAL_FORMS": 1, "targets-0-id": target.pk,
        "targets-0-route": row.pk, "targets-0-position": 0, "targets-0-model": model.pk,
        "targets-0-weight": weight})

page = get("usecaseroute", route, "change")
assert b'name="targets-0-weight"' in page.content
assert b'name="targets-0-weight"' not in get("usecaseroute", foreign, "change").content
saved = with_target(route, 7)
assert saved.status_code == 302, saved.context["errors"]
assert with_target(foreign, 7).status_code == 403
assert [each.targets.get().weight for each in (route, foreign)] == [7, 1]

# A key is revoked, and a row deleted, by who may change or delete that row.
keys = [ApiKey.objects.issue(name)[0] for name in ("a", "b")]
may_in_general("view_apikey")
assert offered("apikey") == []
assign_perm("llm_routing.change_apikey", user, keys[0])
act("apikey", "revoke", *keys)
assert set(ApiKey.objects.filter(is_active=True)) == {keys[1]}
assign_perm("llm_routing.delete_apikey", user, keys[0])
act("apikey", "delete_selected", *keys, post="yes")
assert set(ApiKey.objects.all()) == {keys[1]}
assert get("apikey", keys[1], "delete").status_code == 403

# A circuit breaker is reset by who may for its report.
from django.utils import timezone
from llm_routing.models import BreakerReport, BreakerReset
now = timezone.now()
reports = [
    BreakerReport.objects.create(process="p", provider=name, model="m", state="open", cause="x",
                                 openings=1, opened_at=now, retry_at=now, seen_at=now)
    for name in ("mine", "other")
]
may_in_general("view_breakerreport")
assert offered("breakerreport") == []
assign_perm("llm_routing.reset_breaker", user, reports[0])
assert offered("breakerreport") == ["reset"]
act("breakerreport", "reset", *reports)
assert [reset.provider for reset in BreakerReset.objects.all()] == ["mine"]
print("works")
"""


@pytest.mark.parametrize(
    ("settings", "assign"),
    [(GUARDIAN, "from guardian.shortcuts import assign_perm"), (RULE, "from host_rule import *")],
    ids=["guardian", "rule"],
)
def test_every_action_form_and_inline_asks_about_its_row(
    new_host: NewHost, settings: str, assign: str
) -> None:
    host = new_host(settings)
    (host.directory / "host_rule.py").write_text(RULE_CODE)
    ended = host.script(f"{assign}\n{SETUP}\n{ROWS}")
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    assert ended.stdout.endswith("works\n")


def test_the_admin_works_beside_guardian(new_host: NewHost) -> None:
    assert_works(new_host(GUARDIAN))
