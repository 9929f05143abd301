"""Servers that start while the database is away: they answer, say so, and catch up alone."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import httpx

from project.processes import ROOT, free_port
from tests.servers import Gateway, Server, environment, gateway_server
from tests.waiting import until


def no_database() -> str:
    """A URL without a listener."""
    return f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"


def test_a_program_without_database_or_memory_answers_from_the_built_in_routes(
    sandbox: Server, tmp_path: Path
) -> None:
    env = environment(tmp_path, no_database(), None, LLM_SANDBOX_URL=sandbox.url)
    program = (
        "import asyncio, django, json; django.setup()\n"
        "from llm_routing import close_routers, get_llm_router\n"
        "async def main():\n"
        "    router = await get_llm_router()\n"
        "    answer = await router.complete('Hi', 'debugging', 'premium')\n"
        "    health = await router.get_health_status()\n"
        "    print(json.dumps([answer.provider, health['status'], health['configuration']]))\n"
        "asyncio.run(main())\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr.decode()
    provider, status, configuration = json.loads(outcome.stdout)
    assert (provider, status, configuration["origin"]) == ("sandbox", "degraded", "static")


def test_a_server_starts_from_the_file_that_the_last_one_left(
    gateway: Gateway, tmp_path: Path
) -> None:
    assert ask(gateway.url, gateway.key).status_code == 200
    kept = Path(gateway.env["DJANGO_VAR_DIR"]) / "llm_routing" / "known_keys"
    until(lambda: kept.exists() and len(kept.read_bytes()) > 200)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    env = {**gateway.env, "DATABASE_URL": no_database()}
    with gateway_server(env, tmp_path / "log") as server:
        ready = httpx.get(f"{server.url}/api/llm/health/ready", trust_env=False)
        assert ready.status_code == 200
        health = httpx.get(f"{server.url}/api/llm/health", trust_env=False)
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert "from the file configuration" in server.output()
        # A key that this machine has seen is accepted. An unknown one is not, but it is not
        # rejected as invalid either.
        assert ask(server.url, gateway.key).status_code == 200
        refused = ask(server.url, "sk-llm-0123456789abcdef0123456789abcdef")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["error"]["code"] == "access_unavailable"


def ask(url: str, key: str) -> httpx.Response:
    """A completion."""
    return httpx.post(
        f"{url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {key}"},
        json={"model": "debugging", "messages": [{"role": "user", "content": "Hi"}]},
        trust_env=False,
    )
