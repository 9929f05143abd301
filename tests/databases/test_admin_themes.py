"""The admin's pages under Django's own theme and under django-unfold."""

import pytest

from .conftest import NewHost
from .test_host_settings import assert_works

UNFOLD = 'INSTALLED_APPS = ["unfold", *INSTALLED_APPS]\n'

PAGES = """
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.test.utils import setup_test_environment
from django.utils import timezone
from llm_routing.models import (
    ApiKey, BreakerReport, HealthCheck, ModelConfig, Provider, UsageRecord, UseCaseRoute,
)

call_command("migrate", verbosity=0)
call_command("setup_llm_configuration", verbosity=0)
setup_test_environment()
client = Client()
client.force_login(get_user_model().objects.create_superuser("ada"))

now = timezone.now()
ApiKey.objects.issue("batch")
HealthCheck.objects.create(provider="openai", is_healthy=True, latency_ms=12)
UsageRecord.objects.create(attempt_id="a", request_id="r", operation="chat", provider="openai",
                           model="gpt", outcome="success", started_at=now)
BreakerReport.objects.create(process="p", provider="openai", model="m", state="open", cause="x",
                             openings=1, opened_at=now, retry_at=now, seen_at=now)

def page(path):
    response = client.get("/admin/llm_routing/" + path)
    assert response.status_code == 200, (path, response.status_code)
    text = response.text
    assert ("unfold/css/styles.css" in text) is IS_UNFOLD, path
    return text

def field(text, name):
    return next(tag for tag in text.split("<") if f'name="{name}"' in tag)

for model in (Provider, ModelConfig, UseCaseRoute, ApiKey):
    name, key = model._meta.model_name, model.objects.first().pk
    listed = page(f"{name}/")
    for part in (f"/{name}/add/", f"/{name}/changes/", "llm_routing/admin.css", "llm-status"):
        assert part in listed, (name, part)
    actions = client.get(f"/admin/llm_routing/{name}/").context["action_form"].fields["action"]
    assert "delete_selected" in dict(actions.choices)
    for each in (f"{name}/add/", f"{name}/{key}/delete/", f"{name}/changes/"):
        page(each)
    form, history = page(f"{name}/{key}/change/"), page(f"{name}/{key}/history/")
    assert 'name="seen"' in form, "the form notices changes of others"
    assert f"/{name}/{key}/history/" in form and "llm-history" in history

for model in (UsageRecord, HealthCheck, BreakerReport):
    name = model._meta.model_name
    assert f"/{name}/add/" not in page(f"{name}/")
    page(f"{name}/{model.objects.first().pk}/change/")
assert '<svg class="llm-day"' in page("provider/")

# Fields that we make ourselves look as those of the theme do.
def classes(tag):
    return set(tag.partition('class="')[2].partition('"')[0].split())

provider = page(f"provider/{Provider.objects.first().pk}/change/")
if IS_UNFOLD:
    by_django = classes(field(provider, "name"))
    for ours in ("vendor", "api_key"):
        assert len(classes(field(provider, ours)) & by_django) > 10, ours
model = page("modelconfig/add/")
assert bool(classes(field(model, "capabilities"))) is IS_UNFOLD

issued = client.post("/admin/llm_routing/apikey/add/", {"name": "web", "tenant": "acme"})
assert issued.status_code == 200 and "sk-llm-" in issued.text
print("works")
"""


@pytest.mark.parametrize("settings", ["", UNFOLD], ids=["django", "unfold"])
def test_every_page_of_ours_is_rendered_under_a_theme(new_host: NewHost, settings: str) -> None:
    ended = new_host(settings).script(f"IS_UNFOLD = {bool(settings)}\n{PAGES}")
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    assert ended.stdout.endswith("works\n")


def test_the_admin_works_under_unfold(new_host: NewHost) -> None:
    assert_works(new_host(UNFOLD))
