"""Django's debug page shows settings and variables of the environment, and no password of ours."""

import pytest
from django.conf import settings as django_settings
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

REDIS = "redis://ann:hunter2@redis.example:6379/0"
SECRETS = ("hunter2", "hunter3", "hunter4", "hunter5", "hunter6", "hunter7")


def page(**environ: str) -> str:
    request = RequestFactory().get("/")
    # Like wsgiref's server, on which `runserver` is based.
    request.META.update(environ)
    with pytest.raises(RuntimeError) as caught:
        fail()
    frames = caught.tb.tb_next
    return ExceptionReporter(request, caught.type, caught.value, frames).get_traceback_html()


def fail() -> None:
    # In parts, since the page shows lines of the source too.
    url = "postgres://ann:{}@db.example/llm".format("hunter" + "7")
    raise RuntimeError(url[:8])


@pytest.mark.parametrize("debug", [True, False])
def test_no_password_in_a_url_is_on_the_page(settings, debug: bool) -> None:
    settings.DEBUG = debug
    settings.LLM_ROUTING = {
        "REDIS_URL": REDIS,
        "HTTPS_PROXY": "http://proxy:hunter4@proxy.example:3128",
        "PORTKEY_CONFIG": '{"api_key": "hunter5"}',
    }
    settings.CACHES = {
        "default": {"LOCATION": [REDIS, "redis://other.example?password=hunter6&db=1"]}
    }
    html = page(
        DATABASE_URL="postgres://ann:hunter3@db.example/llm",
        REDIS_URL=REDIS,
        PORTKEY_CONFIG="pc-hunter5",
    )
    for word in SECRETS:
        assert word not in html
    for host in ("redis.example:6379", "db.example/llm", "proxy.example:3128", "other.example"):
        assert host in html, "the rest of a URL helps who looks for the fault"


def test_a_filter_that_the_host_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.apps import apps

    monkeypatch.setattr(django_settings, "DEFAULT_EXCEPTION_REPORTER_FILTER", "hosts.own.Filter")
    apps.get_app_config("llm_routing").ready()
    assert django_settings.DEFAULT_EXCEPTION_REPORTER_FILTER == "hosts.own.Filter"
