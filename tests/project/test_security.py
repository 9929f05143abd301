"""The shipped project's pages: no script from elsewhere, and sign-ins that cannot be guessed."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client, override_settings

from project import security

PASSWORD = "a-long-password-of-a-test"


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def admin(django_user_model: Any, db: None) -> Any:
    return django_user_model.objects.create_superuser("admin", password=PASSWORD)


def sign_in(password: str, address: str = "10.0.0.1") -> bool:
    answer = Client(REMOTE_ADDR=address).post(
        "/admin/login/?next=/admin/", {"username": "admin", "password": password}
    )
    return answer.status_code == 302


@pytest.mark.parametrize("path", ["/admin/login/", "/admin/", "/api/llm/docs", "/nowhere"])
def test_pages_have_a_content_security_policy(client: Client, path: str, admin: Any) -> None:
    client.force_login(admin)
    answer = client.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/admin/",
        "/admin/llm_routing/apikey/add/",
        "/admin/llm_routing/provider/add/",
        "/admin/llm_routing/usecaseroute/add/",
        "/admin/llm_routing/usagerecord/",
        "/api/llm/docs",
    ],
)
@pytest.mark.parametrize("has_ninja", [True, False])
def test_pages_work_under_that_policy(
    client: Client, path: str, admin: Any, has_ninja: bool, settings: Any
) -> None:
    if not has_ninja:
        settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "ninja"]
    client.force_login(admin)
    page = client.get(path)
    assert page.status_code == 200
    text = page.content.decode()
    scripts = re.findall(r"<script([^>]*)>", text)
    assert [tag for tag in scripts if "src=" not in tag and "application/json" not in tag] == []
    assert re.findall(r"""\son[a-z]+=["']|\sstyle=["']|<style|javascript:""", text) == []
    loaded = re.findall(r"""(?:src|href)=["'](?:https?:)?//([^/"']+)""", text)
    assert [host for host in loaded if "jsdelivr" in host or "unpkg" in host] == []
    assert not re.search(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](?:https?:)?//""", text)


@override_settings(
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "simple_history",
        "llm_routing",
    ]
)
def test_the_api_s_page_without_ninja_s_app_lists_the_endpoints(client: Client, db: None) -> None:
    text = client.get("/api/llm/docs").content.decode()
    assert "<code>/v1/chat/completions</code>" in text
    assert 'href="openapi.json"' in text
    assert "<script" not in text


def test_an_address_with_many_failures_cannot_sign_in_for_a_while(
    admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert sign_in(PASSWORD)
    for _ in range(security.MAX_FAILURES):
        assert not sign_in("wrong")
    assert not sign_in(PASSWORD)
    assert "Sign-ins from 10.0.0.1 are refused" in caplog.text
    assert sign_in(PASSWORD, "10.0.0.2")
    cache.clear()  # as at the end of the window
    assert sign_in(PASSWORD)


def test_a_network_of_ipv6_counts_as_one_address(admin: Any) -> None:
    for number in range(security.MAX_FAILURES):
        assert not sign_in("wrong", f"2001:db8::{number:x}")
    assert not sign_in(PASSWORD, "2001:db8::ffff")
    assert sign_in(PASSWORD, "2001:db8:0:1::1")


def test_a_refused_sign_in_hashes_no_password(admin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(security.MAX_FAILURES):
        sign_in("wrong")
    monkeypatch.setattr(
        "django.contrib.auth.backends.ModelBackend.authenticate",
        lambda *_, **__: pytest.fail("the password was looked at"),
    )
    assert not sign_in(PASSWORD)
