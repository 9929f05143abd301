"""The tutorial, followed from its first command to its last in a new project."""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from project.processes import ROOT, free_port
from tests.servers import INHERITED, Server, serving

from .commands import run_command

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
FILES = re.findall(
    r"^```python\n# (mysite/\S+?)(, at its end)?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
)
COMMANDS = [
    re.sub(r"^  ", "", command, flags=re.MULTILINE).strip()
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    for command in ([block] if "shell -c" in block else block.splitlines())
]
PATIENCE = 90.0


def first(word: str) -> str:
    """Returns the first command of the page that contains a text."""
    return next(command for command in COMMANDS if word in command)


@dataclass
class Reader:
    """A reader of the page in an empty folder, with the address of the sandbox and a server's."""

    directory: Path
    env: dict[str, str]
    port: int = field(default_factory=free_port)

    def run(self, command: str) -> str:
        """Runs a command as the page has it; returns its output."""
        ended = run_command(shlex.split(command), self.directory, self.env)
        assert ended.returncode == 0, f"{command}:\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def curl(self, command: str, key: str) -> dict[str, Any]:
        """Sends a request as the page gives it to curl; returns the JSON of the answer."""
        program, url, *options = shlex.split(command.replace("$KEY", key))
        assert program == "curl"
        given = list(zip(options[::2], options[1::2], strict=True))
        headers = dict(value.split(": ") for option, value in given if option == "-H")
        [body] = [value for option, value in given if option == "-d"]
        url = url.replace(":8000/", f":{self.port}/")
        response = httpx.post(url, headers=headers, content=body, timeout=90, trust_env=False)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


@pytest.fixture
def reader(sandbox: Server, tmp_path: Path) -> Reader:
    """The reader after steps 1 to 3."""
    directory = tmp_path / "site"
    directory.mkdir()
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    env |= {
        "PATH": f"{Path(sys.executable).parent}:{env.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "LLM_SANDBOX_URL": sandbox.url,
        "DJANGO_SUPERUSER_PASSWORD": "of a test",
    }
    reader = Reader(directory, env)
    reader.run(first("startproject"))
    for name, is_added, code in FILES:
        with (directory / name).open("a" if is_added else "w") as file:
            file.write(f"\n{code}")
    reader.run(first("llm_migrate"))
    reader.run(first("setup_llm_configuration"))
    reader.run(f"{first('createsuperuser')} --noinput --username ann --email ann@example.org")
    return reader


@pytest.fixture
def server(reader: Reader, tmp_path: Path) -> Iterator[Server]:
    """The server of step 4."""
    command = first("uvicorn").replace("--port 8000", f"--port {reader.port}")
    with serving(
        [sys.executable, "-m", *shlex.split(command)],
        port=reader.port,
        log=tmp_path / "server.log",
        env=reader.env,
        ready_path="/api/llm/health/ready",
        cwd=reader.directory,
    ) as server:
        yield server


def test_every_step_works_as_it_is_written(reader: Reader, server: Server) -> None:
    [in_variable] = re.findall(r"KEY=\$\((.*)\)", first("create_llm_key"))
    key = reader.run(in_variable).strip()
    completion, failover = (command for command in COMMANDS if command.startswith("curl"))
    answer = reader.curl(completion, key)
    assert (answer["provider"], answer["model"]) == ("sandbox", "sandbox-premium")
    assert "Why does this loop never end?" in answer["content"]

    for path in ("/admin/login/", "/static/admin/css/base.css"):
        assert httpx.get(server.url + path, trust_env=False, timeout=90).status_code == 200

    assert "could not be" not in reader.run(first("shell -c"))
    wait_for_route(server, key, "support_reply")
    answer = reader.curl(failover, key)
    assert answer["model"] == "sandbox-standard"
    attempts = [(attempt["model"], attempt["outcome"]) for attempt in answer["attempts"]]
    failed, succeeded = ("sandbox-premium", "failure"), ("sandbox-standard", "success")
    assert attempts == [failed, failed, succeeded]
    reader.curl(failover, key)
    assert len(reader.curl(failover, key)["attempts"]) == 1

    reader.run(first("collectstatic"))
    assert (reader.directory / "staticfiles" / "llm_routing").is_dir()


def wait_for_route(server: Server, key: str, use_case: str) -> None:
    """Returns once the server has taken a new route over."""
    deadline = time.monotonic() + PATIENCE
    headers = {"Authorization": f"Bearer {key}"}
    while True:
        routes = httpx.get(f"{server.url}/api/llm/routes", headers=headers, trust_env=False)
        if use_case in json.dumps(routes.json()):
            return
        assert time.monotonic() < deadline, server.output()
        time.sleep(0.1)


def test_the_test_runs_every_command_of_the_page() -> None:
    run_by_the_test = {
        "startproject",
        "llm_migrate",
        "setup_llm_configuration",
        "createsuperuser",
        "create_llm_key",
        "uvicorn",
        "curl",
        "shell",
        "collectstatic",
    }
    run_elsewhere = {"pip install", "llm_sandbox"}
    for command in COMMANDS:
        assert any(word in command for word in run_by_the_test | run_elsewhere), command
