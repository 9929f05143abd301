"""The migration page followed from its first command to its last, by an application of its own."""

import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from project.processes import ROOT, free_port
from tests.servers import INHERITED, SECRET_KEY, Server, serving

from .commands import run_command

PAGE = (ROOT / "docs" / "from_a_hard_coded_router.md").read_text()
OLD_ROUTER = ROOT / "tests" / "importing" / "samples" / "hard_coded_router.py"
FILES = re.findall(
    r"^```python\n# (assistant/\S+?)(, at its end)?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
)
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if not line.startswith("docker")
]
HI = {"messages": [{"role": "user", "content": "Why does this loop never end?"}]}


@dataclass(frozen=True)
class Application:
    """The application of the page, in a directory of its own."""

    directory: Path
    env: Mapping[str, str]

    def run(self, command: str, expected: int = 0) -> str:
        """Runs a command of the page; returns its output."""
        ended = run_command(command.split(), self.directory, self.env)
        said = ended.stdout + ended.stderr
        assert ended.returncode == expected, f"{command}:\n{said}"
        return said


@pytest.fixture
def application(sandbox: Server, tmp_path: Path) -> Application:
    """The state before the first step: the old router, and an environment."""
    directory = tmp_path / "service"
    (directory / "core").mkdir(parents=True)
    (directory / "core" / "llm_router.py").write_text(OLD_ROUTER.read_text())
    (directory / ".env").write_text(
        f"DATABASE_URL=sqlite:///{directory / 'db.sqlite3'}\nLLM_SANDBOX_URL={sandbox.url}\n"
    )
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    path = f"{Path(sys.executable).parent}:{inherited.get('PATH', '')}"
    env = {**inherited, "PATH": path, "PYTHONPATH": str(ROOT), "DJANGO_SECRET_KEY": SECRET_KEY}
    return Application(directory, env)


@pytest.fixture
def written(application: Application) -> Application:
    """Its project is there, with every file that the page shows."""
    start = next(command for command in COMMANDS if command.startswith("django-admin"))
    application.run(start)
    for name, is_added, code in FILES:
        with (application.directory / name).open("a" if is_added else "w") as file:
            file.write(f"\n{code}")
    return application


@pytest.fixture
def served(written: Application, tmp_path: Path) -> Iterator[Server]:
    """It rehearses without a key, and serves."""
    for command in COMMANDS:
        if "migrate" in command or "setup" in command:
            rehearsal = command.replace("--through openrouter", "--through sandbox")
            # The old file contains values that cannot be imported.
            written.run(rehearsal, expected=int("--from" in command))
    asgi = next(word for word in PAGE.split("`") if word.startswith("uvicorn"))
    port = free_port()
    command = [sys.executable, "-m", *asgi.split(), "--port", str(port)]
    with serving(
        command,
        port=port,
        log=tmp_path / "server.log",
        env=written.env,
        ready_path="/api/llm/health/ready",
        cwd=written.directory,
    ) as server:
        yield server


def test_the_application_of_the_page_answers_and_ends(written: Application, served: Server) -> None:
    key = written.run("python manage.py create_llm_key my-service --json")
    token = re.findall(r'"key": "([^"]+)"', key)[0]
    with httpx.Client(base_url=served.url, timeout=90, trust_env=False) as client:
        own = client.post("/api/complete", json={**HI, "use_case": "debugging"})
        assert own.status_code == 200, own.text + served.output()
        assert "Why does this loop never end?" in own.json()["content"]
        assert client.post("/api/complete", json={**HI, "use_case": "none"}).status_code == 404
        streamed = client.post("/api/stream", json=HI)
        assert streamed.text.endswith("data: [DONE]\n\n")
        chat = client.post(
            "/v1/chat/completions",
            json={**HI, "model": "ticket-triage:standard"},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert chat.status_code == 200, chat.text
        for path in ("/api/llm/health/live", "/api/llm/health/ready", "/api/llm/health"):
            assert client.get(path).status_code == 200
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(90) == 0, served.output()


def test_the_tests_of_the_application_run(written: Application) -> None:
    assert "Ran 2 tests" in written.run("python manage.py test assistant")


def test_every_command_of_the_page_runs_unchanged(written: Application) -> None:
    said = {}
    env = {**written.env, "OPENROUTER_API_KEY": "sk-or-0", "DJANGO_SUPERUSER_PASSWORD": "x"}
    application = Application(written.directory, env)
    assert "no issues" in application.run("python manage.py check")
    for command in COMMANDS:
        if command.startswith("python manage.py"):
            more = (
                " --noinput --username ann --email a@example.org"
                if "createsuperuser" in command
                else ""
            )
            said[command] = application.run(command + more, expected=int("--from" in command))
    assert [word for word in said if "--dry-run" in word]
    assert any("openrouter" in words for words in said.values())
