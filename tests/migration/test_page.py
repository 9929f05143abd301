"""The migration page: its code runs, and its rows and links lead somewhere."""

import ast
import asyncio
import inspect
import re
import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission
from django.core.management import get_commands, load_command_class
from django.db import connections
from django.urls import resolve
from ninja.testing import TestAsyncClient

import llm_routing
from llm_routing import BaseLLMRouter, RouterConfig, close_routers
from llm_routing.conf import Settings
from llm_routing.core import errors
from llm_routing.core.types import LLMRequest
from llm_routing.metrics import NoMetrics, RouterCounters
from llm_routing.models import UseCaseRoute
from tests.router.conftest import Configuration, clean_process, configuration

__all__ = ["clean_process", "configuration"]

PAGE = Path(__file__).parents[2] / "docs" / "from_a_hard_coded_router.md"
BLOCKS = re.findall(r"^```python( sync)?\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
FILES = {
    code.partition("\n")[0].removeprefix("# "): code
    for _, code in BLOCKS
    if code.startswith("# assistant/")
}
SNIPPETS = [(sync, code) for sync, code in BLOCKS if not code.startswith("# assistant/")]
HI = {"messages": [{"role": "user", "content": "Why does this loop never end?"}]}


@pytest.fixture
def routes(configuration: Configuration, clean_process: None) -> None:
    """Creates the routes that the page requires."""
    for use_case, tier in (("debugging", "premium"), ("general_purpose", "standard")):
        route = UseCaseRoute.objects.create(use_case=use_case, tier=tier)
        route.targets.create(model=configuration.model, position=0)


def run(code: str, names: dict[str, Any]) -> None:
    """Executes a snippet that may await at its top level."""
    compiled = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def inside() -> None:
        result = eval(compiled, names)
        if inspect.isawaitable(result):
            await result
        await close_routers()
        await sync_to_async(connections.close_all)()

    asyncio.run(inside())


@pytest.mark.usefixtures("routes")
@pytest.mark.parametrize(("sync", "code"), SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_runs(sync: str, code: str) -> None:
    names: dict[str, Any] = {"__name__": "snippet"}
    if sync:
        exec(compile(code, str(PAGE), "exec"), names)
        asyncio.run(close_routers())
        connections.close_all()
    else:
        run(code, names)
    if "text" in names:
        assert "Why does this loop never end?" in names["text"]


@pytest.fixture
def assistant(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package of the page's files, as far as they are in it yet."""
    package = ModuleType("assistant")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "assistant", package)
    return package


def load(monkeypatch: pytest.MonkeyPatch, package: ModuleType, name: str) -> ModuleType:
    """A file of the page as a module."""
    module = ModuleType(f"assistant.{name}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    setattr(package, name, module)
    exec(compile(FILES[f"assistant/{name}.py"], str(PAGE), "exec"), module.__dict__)
    return module


@pytest.fixture
def api(assistant: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load(monkeypatch, assistant, "api")


@pytest.mark.usefixtures("routes")
async def test_the_endpoints_answer_stream_and_report_errors(api: ModuleType) -> None:
    client = TestAsyncClient(api.api)
    answer = await client.post("/complete", json=HI)
    assert "Why does this loop never end?" in answer.json()["content"]
    unknown = await client.post("/complete", json={**HI, "use_case": "nothing"})
    assert unknown.status_code == 404
    assert "general_purpose" in unknown.json()["detail"]
    refused = await client.post("/stream", json={**HI, "use_case": "nothing"})
    assert refused.status_code == 404
    request = api.CompletionRequest(**HI)
    lines = [line async for line in await api.stream(None, request)]
    assert len(lines) > 2
    assert lines[0].startswith(b'data: {"text": "')
    assert lines[-1] == b"data: [DONE]\n\n"
    await close_routers()
    await sync_to_async(connections.close_all)()


@pytest.mark.usefixtures("api")
def test_the_tests_of_the_page_pass(assistant: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = load(monkeypatch, assistant, "tests")
    outcome = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(tests).run(outcome)
    assert (outcome.testsRun, outcome.failures, outcome.errors) == (2, [], [])


def test_the_application_starts(assistant: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(load(monkeypatch, assistant, "asgi").application)


def test_every_promise_has_its_row_and_every_link_its_page() -> None:
    text = PAGE.read_text()
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == [str(n) for n in range(1, 13)]
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def names_in_the_new_column() -> list[str]:
    """Returns the names of the new router in the tables, as code."""
    rows = re.findall(r"^\|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.rpartition("|")[2])]


def is_there(name: str) -> bool:
    """Returns whether the router has a name of a table."""
    if name.startswith(("GET /", "/")):
        path = name.removeprefix("GET ")
        return bool(resolve(path if path != "/ready" else "/api/llm/health/ready"))
    if name.removeprefix("python ").startswith("manage.py "):
        return name.rpartition(" ")[2] in get_commands()
    if name.startswith("llm_routing."):
        app, _, codename = name.partition(".")
        wanted = Permission.objects.filter(content_type__app_label=app, codename=codename)
        return wanted.exists() or hasattr(llm_routing, codename)
    if name.startswith("--"):
        parser = load_command_class("llm_routing", "llm_health_sweep").create_parser("", "")
        return name in parser.format_help()
    if name.startswith('["'):
        counts = RouterCounters(NoMetrics(), NoMetrics()).numbers()
        return name[2:-2] in counts or name[1:-1] in inspect.getsource(BaseLLMRouter.get_metrics)
    variable = name.partition("=")[0]
    fields = Settings.model_fields
    return (
        (PAGE.parents[1] / name).is_file()
        or variable in {field.alias for field in fields.values()} | {one.upper() for one in fields}
        or variable in RouterConfig.model_fields
        or variable in inspect.signature(BaseLLMRouter.complete).parameters
        or variable in inspect.signature(LLMRequest).parameters
        or hasattr(errors, name)
        or hasattr(errors.LLMError("x"), name)
        or hasattr(BaseLLMRouter, name.removeprefix("router.").removesuffix("()"))
        or hasattr(llm_routing, name.removeprefix("await ").removesuffix("()"))
    )


OF_THE_PROJECT = {"DATABASE_URL", "DEBUG", "settings.py", "postgresql+asyncpg://…", "llm_routing"}
"""Names of Django and the shipped project, which tests/project checks."""


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(set(names_in_the_new_column()) - OF_THE_PROJECT))
def test_everything_in_the_tables_exists(name: str) -> None:
    assert is_there(name)


@pytest.mark.django_db
def test_a_made_up_name_does_not_exist() -> None:
    names = ("manage.py llm_fly", "NO_SUCH_KEY", "llm_routing.fly", '["flights_total"]', "--fly")
    assert [name for name in names if is_there(name)] == []
