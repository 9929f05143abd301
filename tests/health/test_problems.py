"""The reason why a provider is not used, and its remedy, are in the health status and the log."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command

from llm_routing import BaseLLMRouter, close_routers, get_llm_router
from llm_routing.conf import get_settings
from llm_routing.core.errors import AllTargetsFailed, LLMError
from llm_routing.health.sweeper import log_report
from llm_routing.models import ApiKey, Provider
from llm_routing.setup.configure import configure
from project.processes import free_port
from tests.servers import Server, gateway_server

from .conftest import Upstream, add_provider, add_route, swept

pytestmark = pytest.mark.usefixtures("clean_process")


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets variables of this process."""

    def change(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()

    return change


@pytest.fixture
async def routers() -> AsyncIterator[None]:
    """Closes the routers of a test."""
    yield
    await close_routers()


async def entry(router: BaseLLMRouter, provider: str) -> dict[str, Any]:
    status = await router.get_health_status()
    found: dict[str, Any] = status["providers"][provider]
    return found


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


class TestForbiddenAddress:
    """With DEBUG off and the sandbox on this machine."""

    @pytest.fixture(autouse=True)
    def forbidden(self, environ: Callable[..., None]) -> None:
        environ(LLM_ALLOWED_UPSTREAM_NETWORKS="10.0.0.0/8")

    def test_a_server_logs_it_at_start(self, command_env: dict[str, str], tmp_path: Path) -> None:
        configure(environ={})
        key = ApiKey.objects.issue("tests")[1]
        env = command_env | {"LLM_ALLOWED_UPSTREAM_NETWORKS": "", "DJANGO_DEBUG": "0"}
        with (
            gateway_server(env, tmp_path / "gateway.log") as server,
            httpx.Client(base_url=server.url, trust_env=False) as client,
        ):
            assert client.get("/api/llm/health").status_code == 503
            client.headers["Authorization"] = f"Bearer {key}"
            health = client.get("/api/llm/health").json()
            failed = client.post(
                "/api/llm/complete", json={"messages": "Hi", "use_case": "debugging"}
            )
            output = server.output()
        assert health["status"] == "unhealthy"
        sandbox = health["providers"]["sandbox"]
        assert sandbox["status"] == "unhealthy"
        assert "LLM_ALLOWED_UPSTREAM_NETWORKS" in sandbox["problem"]
        assert "127.0.0.1" not in sandbox["problem"], "addresses are no business of callers"
        assert failed.status_code == 502
        assert "LLM_ALLOWED_UPSTREAM_NETWORKS" in failed.json()["error"]["message"]
        assert output.count("Provider sandbox cannot be called: The address 127.0.0.1") == 1
        assert "LLM_ALLOWED_UPSTREAM_NETWORKS" in output

    async def test_a_name_that_leads_to_one_is_reported_once_it_was_called(
        self,
        routers: None,
        upstream: Upstream,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # Names are not resolved beforehand.
        resolve = socket.getaddrinfo

        def resolve_to_this_machine(host: str, *arguments: Any, **options: Any) -> Any:
            host = "127.0.0.1" if host == "models.example" else host
            return resolve(host, *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", resolve_to_this_machine)
        url = upstream.base_url.replace("127.0.0.1", "models.example").replace("http:", "https:")
        await sync_to_async(add_provider)("first", url)
        await sync_to_async(add_route)("first/alpha")
        router = await get_llm_router()
        assert (await entry(router, "first"))["problem"] is None
        for _ in range(2):
            with pytest.raises(AllTargetsFailed, match="LLM_ALLOWED_UPSTREAM_NETWORKS"):
                await router.complete("Hi", use_case="debugging")
        found = await entry(router, "first")
        assert found["status"] == "unhealthy"
        assert "LLM_ALLOWED_UPSTREAM_NETWORKS" in found["problem"]
        told = [text for text in warnings(caplog) if "first cannot be called" in text]
        assert len(told) == 1
        assert "LLM_ALLOWED_UPSTREAM_NETWORKS" in told[0]

    def test_set_up_warns(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("setup_llm_configuration", verbosity=0)
        told = capsys.readouterr().err
        assert "The provider sandbox cannot be called: The address 127.0.0.1 is not" in told
        assert "LLM_ALLOWED_UPSTREAM_NETWORKS" in told

    def test_the_sweep_inside_a_server_logs_the_setting(
        self, upstream: Upstream, caplog: pytest.LogCaptureFixture
    ) -> None:
        add_provider("first", upstream.base_url)
        log_report(swept())
        (told,) = [text for text in warnings(caplog) if text.startswith("first is unhealthy")]
        assert "LLM_ALLOWED_UPSTREAM_NETWORKS" in told


class TestSandboxThatIsNotRunning:
    @pytest.fixture
    def port(self, environ: Callable[..., None]) -> int:
        port = free_port()
        environ(LLM_SANDBOX_URL=f"http://127.0.0.1:{port}")
        configure(environ={})
        return port

    async def test_the_error_and_the_health_status_name_the_command(
        self, routers: None, port: int
    ) -> None:
        command = f"python manage.py llm_sandbox --port {port}"
        router = await get_llm_router()
        assert (await entry(router, "sandbox"))["problem"] is None
        with pytest.raises(LLMError) as caught:
            await router.complete("Hi", use_case="debugging")
        assert command in caught.value.message
        assert command in (await entry(router, "sandbox"))["problem"]

    def test_a_check_names_the_command(self, port: int) -> None:
        for report in (swept(), swept(deep=True)):
            (whole,) = [result for result in report.results if not result.model]
            assert f"python manage.py llm_sandbox --port {port}" in whole.message

    def test_discovery_names_the_command(
        self, port: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            call_command("llm_discover_models")
        assert f"python manage.py llm_sandbox --port {port}" in capsys.readouterr().err


class TestKeyAfterSetUp:
    """A vendor's key that is put into the environment once set-up has run."""

    @pytest.fixture(autouse=True)
    def configured(
        self, clean_process: None, environ: Callable[..., None], sandbox: Server
    ) -> None:
        environ(LLM_SANDBOX_URL=sandbox.url)
        configure(environ={})

    async def test_the_status_and_the_log_say_that_it_is_not_used(
        self, routers: None, environ: Callable[..., None], caplog: pytest.LogCaptureFixture
    ) -> None:
        environ(MISTRAL_API_KEY="k")
        router = await get_llm_router()
        (notice,) = (await router.get_health_status())["notices"]
        assert notice.startswith("MISTRAL_API_KEY is set, but the provider mistral is not active")
        assert "setup_llm_configuration" in notice
        assert warnings(caplog).count(notice) == 1
        assert (await router.complete("Hi", use_case="debugging")).provider == "sandbox"

        await sync_to_async(configure)(environ=os.environ)
        async with asyncio.timeout(90):
            while (await router.get_health_status())["notices"]:
                await asyncio.sleep(0.05)
        assert (await entry(router, "mistral"))["has_credential"]

    async def test_an_operator_s_decision_is_no_news(
        self, routers: None, environ: Callable[..., None]
    ) -> None:
        row = await Provider.objects.aget(name="mistral")
        row.notes = "Not before the contract is signed."
        await row.asave()
        environ(MISTRAL_API_KEY="k")
        router = await get_llm_router()
        assert (await router.get_health_status())["notices"] == []


async def test_a_missing_key_is_named(routers: None, upstream: Upstream) -> None:
    def without_key() -> None:
        row = add_provider("first", "https://api.example.com/v1")
        row.clear_api_key()
        row.api_key_env = "ACME_API_KEY"
        row.save()

    await sync_to_async(without_key)()
    found = await entry(await get_llm_router(), "first")
    assert found["status"] == "unhealthy"
    assert found["problem"] == (
        "There is no key for it: set ACME_API_KEY, or store one in the admin."
    )
