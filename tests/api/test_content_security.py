"""Pages work under a strict Content-Security-Policy: no inline code, nothing from other servers.

Chromium judges if it is installed; the HTML is checked in any case.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from llm_routing.models import ApiKey
from tests import rows

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "report-uri /csp-report"
)
DOCS = "/api/llm/docs"
CHROMIUM_SECONDS = 120
_reports: list[str] = []

View = Callable[[HttpRequest], HttpResponse]


def strict_policy(get_response: View) -> View:
    """Middleware that sends the policy and collects the browser's reports of violations."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path == "/csp-report":
            _reports.append(request.body.decode())
            return HttpResponse(status=204)
        response = get_response(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return middleware


def signed_in(get_response: View) -> View:
    """Middleware that makes every visitor the superuser `ada`."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.user = get_user_model().objects.get(username="ada")
        return get_response(request)

    return middleware


class InlineCode(HTMLParser):
    """Collects the parts of a page that a strict policy blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        is_data = "json" in (given.get("type") or "")
        if tag == "style" or (tag == "script" and "src" not in given and not is_data):
            self.found.append(f"<{tag}>")
        for name, value in given.items():
            if name == "style" or name.startswith("on"):
                self.found.append(f"{tag} {name}={value}")
            is_link = name == "src" or (name == "href" and tag == "link")
            if is_link and (urlsplit(value or "").netloc or (value or "").startswith("data:")):
                self.found.append(f"{tag} {name}={value}")


def violations(page: str) -> list[str]:
    parser = InlineCode()
    parser.feed(page)
    return parser.found


@pytest.fixture
def pages(db: None) -> list[str]:
    """The paths of the API's page and of the admin's pages that have templates of ours."""
    return admin_pages()


def admin_pages() -> list[str]:
    get_user_model().objects.create_superuser("ada")
    model = rows.model()
    route = rows.route("debugging", model)
    key, _ = ApiKey.objects.issue("batch")
    admin = "/admin/llm_routing"
    return [
        f"{admin}/provider/",
        f"{admin}/provider/{model.provider.pk}/change/",
        f"{admin}/provider/{model.provider.pk}/history/",
        f"{admin}/modelconfig/",
        f"{admin}/usecaseroute/",
        f"{admin}/usecaseroute/{route.pk}/change/",
        f"{admin}/apikey/",
        f"{admin}/apikey/{key.pk}/history/",
        f"{admin}/usagerecord/",
        f"{admin}/healthcheck/",
    ]


def test_our_pages_have_no_inline_code_and_load_nothing_from_elsewhere(pages: list[str]) -> None:
    client = Client()
    client.force_login(get_user_model().objects.get(username="ada"))
    for path in (DOCS, *pages):
        response = client.get(path)
        assert response.status_code == 200, path
        assert violations(response.text) == [], path


def test_the_page_without_ninjas_static_files_is_plain_html(settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "ninja"]
    page = Client().get(DOCS).text
    assert "<table>" in page
    assert "<script" not in page
    assert violations(page) == []


def test_no_template_of_ours_has_inline_code() -> None:
    templates = Path(__file__).parents[2] / "llm_routing" / "templates"
    found = list(templates.rglob("*.html"))
    assert found
    for template in found:
        text = re.sub(r"{%.*?%}|{{.*?}}", "", template.read_text(), flags=re.DOTALL)
        assert violations(text) == [], template


def test_the_check_finds_inline_code() -> None:
    for page in (
        "<script>alert(1)</script>",
        "<style>p {}</style>",
        '<p style="color: red">',
        '<p onclick="x()">',
        '<script src="https://cdn.example.com/x.js"></script>',
        '<link href="//cdn.example.com/x.css">',
    ):
        assert violations(page), page


@pytest.fixture
def strict_server(transactional_db: None, settings: Any) -> Iterator[LiveServer]:
    """A server that sends the policy; every visitor is signed in."""
    settings.MIDDLEWARE = [
        f"{__name__}.strict_policy",
        *(each for each in settings.MIDDLEWARE if not each.startswith("project.")),
        f"{__name__}.signed_in",
    ]
    # Not the session's: that one has loaded its middleware already.
    server = LiveServer("localhost")
    yield server
    server.stop()


def browse(url: str, profile: Path) -> str:
    """Returns the page as Chromium has it after its scripts have run."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=10000",
        "--dump-dom",
        url,
    ]
    return subprocess.run(  # a browser for our own pages
        command, capture_output=True, text=True, timeout=CHROMIUM_SECONDS, check=True
    ).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_reports_no_violation(strict_server: LiveServer, tmp_path: Path) -> None:
    """Swagger UI is drawn from our own static files, and the admin's pages break no rule."""
    paths = admin_pages()
    _reports.clear()
    page = browse(f"{strict_server.url}{DOCS}", tmp_path)
    assert "/v1/chat/completions" in page, "Swagger UI has drawn the document"
    for path in paths:
        assert 'id="logout-form"' in browse(f"{strict_server.url}{path}", tmp_path), path
    blocked = [json.loads(report)["csp-report"] for report in _reports]
    assert [(each["document-uri"], each["blocked-uri"]) for each in blocked] == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_reports_a_violation(
    strict_server: LiveServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So the test above would notice one."""
    get_user_model().objects.create_superuser("ada")
    monkeypatch.setattr(f"{__name__}.POLICY", POLICY.replace("'self'", "'none'"))
    _reports.clear()
    assert "/v1/chat/completions" not in browse(f"{strict_server.url}{DOCS}", tmp_path)
    assert "swagger-ui-bundle.js" in "".join(_reports)
