"""Runs the clients' own tests through the gateway: `python -m tests.sdks VENV [CLIENT ...]`.

VENV is the environment of the clients, with their unpacked sdists in `VENV/sdists`
(`scripts/sdks.sh` makes it). Everything runs twice: once on a provider that speaks OpenAI's
format and once on a provider that speaks Anthropic's.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from project.processes import ROOT
from tests.servers import Gateway, environment, gateway_server, manage, sandbox_server

from .gateway_plugin import KEY_VARIABLE, REFUSALS_VARIABLE
from .refusals import UPSTREAM_FORMATS, refusals_of
from .suites import SUITES, Suite


def main() -> int:
    """Run the suites that are named, or all of them. The exit status is 1 if one fails."""
    venv, names = Path(sys.argv[1]).absolute(), sys.argv[2:]
    suites = [suite for suite in SUITES if not names or suite.name in names]
    assert suites, f"No suite is named {names}: {[suite.name for suite in SUITES]}"
    failed = []
    for upstream in UPSTREAM_FORMATS:
        with tempfile.TemporaryDirectory() as name, gateway(Path(name), upstream) as server:
            for suite in suites:
                print(f"{suite.name} over {upstream}:", flush=True)
                if not passes(suite, upstream, server, venv):
                    failed.append(f"{suite.name} over {upstream}")
    if failed:
        print("Failed: " + ", ".join(failed), file=sys.stderr)
    return bool(failed)


@contextmanager
def gateway(directory: Path, upstream: str) -> Iterator[Gateway]:
    """A gateway over the sandbox, whose aliases are the model names of all suites."""
    with sandbox_server(directory) as sandbox:
        env = environment(directory, f"sqlite:///{directory / 'db.sqlite3'}", None)
        manage(env, "migrate", "--verbosity=0")
        configure = "from tests.sdks.configuration import configure; "
        configure += f"configure({sandbox.url!r}, {upstream!r})"
        manage(env, "shell", "--no-imports", "-c", configure)
        key = json.loads(manage(env, "create_llm_key", "tests", "--json"))["key"]
        with gateway_server(env, directory / "gateway.log") as server:
            yield Gateway(server, key, env)


def passes(suite: Suite, upstream: str, server: Gateway, venv: Path) -> bool:
    """Whether the suite's tests pass through the gateway, with the refusals that are expected."""
    if suite.is_ours:
        directory, files = ROOT / "tests/sdks/clients", suite.files
    else:
        (directory,) = (venv / "sdists").glob(f"{suite.name.replace('-', '_')}-*/")
        files = tuple(f"tests/api_resources/{path}" for path in suite.files)
    refusals = [asdict(refusal) for refusal in refusals_of(suite.name, upstream)]
    env: Mapping[str, str] = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "tests" / "sdks"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TEST_API_BASE_URL": server.url + suite.base_path,
        KEY_VARIABLE: server.key,
        REFUSALS_VARIABLE: json.dumps(refusals),
    }
    command = [str(venv / "bin/python"), "-m", "pytest", "-p", "gateway_plugin", "-n", "0"]
    command += ["-p", "no:cacheprovider", "--durations-min=10", *files]
    return subprocess.run(command, cwd=directory, env=env, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
