"""A pytest plugin for the test suite of a client, loaded with `-p gateway_plugin`.

It gives the suite's clients a key that the gateway takes, and turns each test that the gateway
refuses for a good reason into one that passes only if exactly this refusal comes. It runs in the
environment of the clients, beside their package `tests`, and therefore imports nothing of ours.
"""

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

KEY_VARIABLE = "GATEWAY_KEY"
REFUSALS_VARIABLE = "GATEWAY_REFUSALS"
CLIENTS = ("client", "async_client")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a test gets instead of the answer that it asks for."""

    test: str
    """The file, `::` and the function."""
    status: int | None
    """The status of the error; `None` if it is the client that refuses the answer."""
    text: str
    """A part of the error's message."""
    variants: tuple[str, ...] = ()
    """The clients that meet it, as in the test's id (`loose`, `strict`, `aiohttp`); empty: all."""
    passes_with: Mapping[str, Any] | None = None
    """Fields of the body with which the same test passes; `None` as a value leaves one out."""

    def concerns(self, item: pytest.Item) -> bool:
        """Whether the test is the one that is meant."""
        path, _, function = self.test.partition("::")
        name, _, variant = item.name.rstrip("]").partition("[")
        return (
            item.nodeid.partition("::")[0] in (path, f"tests/api_resources/{path}")
            and name == function
            and (not self.variants or variant in self.variants)
        )

    def is_told_by(self, error: BaseException) -> bool:
        """Whether a client's error reports this refusal."""
        status = getattr(error, "status_code", None)
        return (self.status is None or status == self.status) and self.text in str(error)


REFUSAL = pytest.StashKey[Refusal]()


def pytest_plugin_registered(plugin: object) -> None:
    """Replaces the key in the suite's conftest, whose fixtures give it to the clients."""
    if getattr(plugin, "__name__", "") == "tests.conftest":
        assert hasattr(plugin, "api_key"), "The suite's conftest keeps its key elsewhere now."
        plugin.api_key = os.environ[KEY_VARIABLE]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Finds the tests of each refusal. Raises `UsageError` for a refusal without one."""
    for row in json.loads(os.environ[REFUSALS_VARIABLE]):
        refusal = Refusal(**row)
        tests = [item for item in items if refusal.concerns(item)]
        if not tests:
            raise pytest.UsageError(f"No test is {refusal.test}; remove its refusal.")
        for item in tests:
            item.stash[REFUSAL] = refusal


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[Any]:
    """Runs a test. If a refusal is expected, the test fails unless it comes, and the test is run
    again with the fields that the gateway takes."""
    refusal = item.stash.get(REFUSAL, None)
    if refusal is None:
        return (yield)
    try:
        yield
    except Exception as error:
        if not refusal.is_told_by(error):
            raise
    else:
        pytest.fail("This test passes now; remove its row from tests/sdks/refusals.py.")
    if refusal.passes_with is not None:
        with changed_bodies(item, refusal.passes_with):
            item.runtest()


@contextmanager
def changed_bodies(item: pytest.Item, fields: Mapping[str, Any]) -> Iterator[None]:
    """Has the test's client send other values of some fields."""
    assert isinstance(item, pytest.Function)
    client: Any = next(item.funcargs[name] for name in CLIENTS if name in item.funcargs)
    build_request: Callable[..., Any] = client._build_request  # of every Stainless client

    @functools.wraps(build_request)
    def with_fields(options: Any, **more: Any) -> Any:
        body = {**options.json_data, **fields}
        kept = {name: value for name, value in body.items() if value is not None}
        return build_request(options.model_copy(update={"json_data": kept}), **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_build_request", with_fields)
        yield
