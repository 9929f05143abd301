"""The migration page: its snippets run, and its rows lead somewhere."""

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from llm_routing import close_routers
from llm_routing.models import UseCaseRoute
from tests.router.conftest import Configuration, clean_process, configuration

__all__ = ["clean_process", "configuration"]

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
SNIPPETS = re.findall(r"^```python( sync)?\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def run(code: str, names: dict[str, Any]) -> None:
    """Executes a snippet that may await at its top level."""
    compiled = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def inside() -> None:
        result = eval(compiled, names)
        if inspect.isawaitable(result):
            await result
        if "complete" in names:
            body = names["CompletionRequest"](messages=[{"role": "user", "content": "Hi"}])
            names["answer"] = await names["complete"](None, body)
        await close_routers()
        await sync_to_async(connections.close_all)()

    asyncio.run(inside())


@pytest.mark.usefixtures("clean_process")
@pytest.mark.parametrize(("sync", "code"), SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_runs(sync: str, code: str, configuration: Configuration) -> None:
    for use_case, tier in (("debugging", "premium"), ("general_purpose", "standard")):
        route = UseCaseRoute.objects.create(use_case=use_case, tier=tier)
        route.targets.create(model=configuration.model, position=0)
    names: dict[str, Any] = {"__name__": "snippet"}
    if sync:
        exec(compile(code, str(PAGE), "exec"), names)
        asyncio.run(close_routers())
        connections.close_all()
    else:
        run(code, names)
    if "response" in names:
        assert "Why does this loop never end?" in names["body"]["content"]
    if "complete" in names:
        assert "Hi" in names["answer"]["content"]


def test_every_promise_has_its_row_and_every_link_its_page() -> None:
    text = PAGE.read_text()
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == [str(n) for n in range(1, 13)]
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
