"""The plugin that runs in the suites of clients tells an expected refusal from any other end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .gateway_plugin import KEY_VARIABLE, REFUSALS_VARIABLE

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest

api_key = "the suite's own key"

class Options:
    def __init__(self, json_data):
        self.json_data = json_data

    def model_copy(self, update):
        return Options(**update)

class Refused(Exception):
    status_code = 400

class Client:
    def _build_request(self, options):
        return options.json_data

    def send(self, **fields):
        body = self._build_request(Options(fields))
        assert api_key == "a key of the gateway"
        if body.get("tokens") == 0:
            raise Refused("tokens must be 1 or more.")

@pytest.fixture
def client():
    return Client()
"""
SUITE = """
def test_with_tokens(client):
    client.send(tokens=1)

def test_without_tokens(client):
    client.send(tokens=0)
"""
REFUSED = {
    "test": "test_chat.py::test_without_tokens",
    "status": 400,
    "text": "tokens must be 1 or more.",
}

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a suite of two tests, of which the gateway refuses one, with some expectations."""
    directory = pytester.mkpydir("tests")
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "api_resources").mkdir()
    (directory / "api_resources/test_chat.py").write_text(SUITE)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv(KEY_VARIABLE, "a key of the gateway")

    def run(*refusals: dict[str, Any]) -> pytest.RunResult:
        monkeypatch.setenv(REFUSALS_VARIABLE, json.dumps(refusals))
        return pytester.runpytest_subprocess("-p", "gateway_plugin")

    return run


def test_an_expected_refusal_passes(run: Run) -> None:
    run(REFUSED).assert_outcomes(passed=2)


@pytest.mark.parametrize("other", [{"status": 404}, {"text": "tokens must be 2 or more."}])
def test_another_refusal_than_the_expected_one_fails(run: Run, other: dict[str, Any]) -> None:
    run(REFUSED | other).assert_outcomes(passed=1, failed=1)


def test_a_refusal_that_nobody_expects_fails(run: Run) -> None:
    run().assert_outcomes(passed=1, failed=1)


def test_a_success_instead_of_a_refusal_fails(run: Run) -> None:
    result = run(REFUSED, REFUSED | {"test": "test_chat.py::test_with_tokens"})

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*This test passes now*"])


def test_an_expectation_without_a_test_is_an_error(run: Run) -> None:
    result = run(REFUSED | {"test": "test_chat.py::test_renamed"})

    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_after_the_refusal_the_test_runs_with_other_fields(run: Run) -> None:
    run(REFUSED | {"passes_with": {"tokens": 1}}).assert_outcomes(passed=2)
    run(REFUSED | {"passes_with": {"more": 1}}).assert_outcomes(passed=1, failed=1)


def test_a_field_without_a_value_is_left_out(run: Run) -> None:
    run(REFUSED | {"passes_with": {"tokens": None}}).assert_outcomes(passed=2)
