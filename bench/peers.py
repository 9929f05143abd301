"""The other gateways: how each is configured and started, with nothing on that it can do without.

Where they come from is in `install`.
"""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from project.processes import free_port

from .install import FromNpm, FromPyPI
from .processes import SYSTEM_CORE, CannotStart, environment, running
from .systems import CHAT, Started
from .targets import Target, plain_body
from .upstream import Upstream

_LITELLM = FromPyPI("litellm", "litellm[proxy]", "1.106.2")
_TENSORZERO = FromPyPI("tensorzero", "tensorzero", "2026.6.0")
# With a later release of its server every stream ends in "TypeError: immutable".
_PORTKEY = FromNpm("portkey", "@portkey-ai/gateway", "1.15.2", (("@hono/node-server", "1.13.8"),))

_TENSORZERO_SERVER = Path(__file__).with_name("tensorzero_server.py")
_TENSORZERO_CONFIG = """\
[gateway]
observability.enabled = false
disable_pseudonymous_usage_analytics = true
"""
_TENSORZERO_MODEL = """
[models.{name}]
routing = ["upstream"]
[models.{name}.providers.upstream]
type = "openai"
model_name = "bench"
api_base = "{base_url}/v1/"
api_key_location = "env::BENCH_UPSTREAM_KEY"
"""


@dataclass(frozen=True, slots=True)
class LiteLLM:
    """LiteLLM's proxy: key check on, no database, no log of accesses."""

    name: str = "litellm"
    package: FromPyPI = _LITELLM

    @property
    def title(self) -> str:
        """Of System."""
        return f"LiteLLM {self.package.version}"

    @contextmanager
    def start(self, upstream: Upstream, directory: Path) -> Iterator[Started]:
        """Of System."""
        master_key = f"sk-{secrets.token_hex(32)}"
        bases = {"plain": upstream.plain, "stream": upstream.stream}
        models = [
            {
                "model_name": name,
                "litellm_params": {
                    "model": "openai/bench",
                    "api_base": f"{base}/v1",
                    "api_key": "sk-upstream",
                },
            }
            for name, base in bases.items()
        ]
        config = {"model_list": models, "general_settings": {"master_key": master_key}}
        (directory / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
        (directory / "log.json").write_text(json.dumps(_QUIET))
        port = free_port()
        url = f"http://127.0.0.1:{port}{CHAT}"
        plain = Target(url, ["plain"], [master_key])
        command = [str(self.package.home / "bin" / "litellm"), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--config", str(directory / "config.yaml")]
        command += ["--num_workers", "1", "--log_config", str(directory / "log.json")]
        with running(
            command,
            core=SYSTEM_CORE,
            env=environment(
                LITELLM_LOCAL_MODEL_COST_MAP="True",
                LITELLM_LOG="ERROR",
                LITELLM_MODE="PRODUCTION",
            ),
            log=directory / "litellm.log",
            ready=lambda: plain.request(plain_body(), "ready"),
            cwd=directory,
        ) as server:
            stream = Target(url, ["stream"], [master_key])
            yield Started(plain, stream, server.session, server.start_seconds, {})


_QUIET = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {
        "uvicorn.access": {"level": "ERROR", "handlers": [], "propagate": False},
    },
}


@dataclass(frozen=True, slots=True)
class TensorZero:
    """TensorZero's gateway in the process of its Python client, observability off."""

    name: str = "tensorzero"
    package: FromPyPI = _TENSORZERO

    @property
    def title(self) -> str:
        """Of System."""
        return f"TensorZero {self.package.version}"

    @contextmanager
    def start(self, upstream: Upstream, directory: Path) -> Iterator[Started]:
        """Of System."""
        bases = {"plain": upstream.plain, "stream": upstream.stream}
        models = [_TENSORZERO_MODEL.format(name=n, base_url=base) for n, base in bases.items()]
        config, address = directory / "tensorzero.toml", directory / "address"
        config.write_text(_TENSORZERO_CONFIG + "".join(models))

        def target(name: str) -> Target:
            url = f"{address.read_text()}/chat/completions"
            return Target(url, [f"tensorzero::model_name::{name}"])

        def ready() -> httpx.Request | None:
            # It chooses its port itself.
            return target("plain").request(plain_body(), "ready") if address.exists() else None

        with running(
            [str(self.package.python), str(_TENSORZERO_SERVER), str(config), str(address)],
            core=SYSTEM_CORE,
            env=environment(BENCH_UPSTREAM_KEY="sk-upstream"),
            log=directory / "tensorzero.log",
            ready=ready,
        ) as server:
            plain, stream = target("plain"), target("stream")
            yield Started(plain, stream, server.session, server.start_seconds, {})


@dataclass(frozen=True, slots=True)
class Portkey:
    """Portkey's gateway on Node; the request itself says where it is to go."""

    name: str = "portkey"
    package: FromNpm = _PORTKEY

    @property
    def title(self) -> str:
        """Of System."""
        return f"Portkey {self.package.version}"

    @contextmanager
    def start(self, upstream: Upstream, directory: Path) -> Iterator[Started]:
        """Of System."""
        node = shutil.which("node")
        if node is None:
            raise CannotStart("node is not installed: sudo apt-get install nodejs")
        port = free_port()

        def target(base: str) -> Target:
            headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{base}/v1"}
            return Target(f"http://127.0.0.1:{port}{CHAT}", ["bench"], headers=headers)

        plain = target(upstream.plain)
        script = self.package.home / "node_modules/@portkey-ai/gateway/build/start-server.js"
        with running(
            [node, str(script), f"--port={port}", "--headless"],
            core=SYSTEM_CORE,
            env=environment(TRUSTED_CUSTOM_HOSTS="127.0.0.1,localhost", NODE_ENV="production"),
            log=directory / "portkey.log",
            ready=lambda: plain.request(plain_body(), "ready"),
        ) as server:
            stream = target(upstream.stream)
            yield Started(plain, stream, server.session, server.start_seconds, {})


Peer = LiteLLM | TensorZero | Portkey
PEERS: tuple[Peer, ...] = (LiteLLM(), Portkey(), TensorZero())
