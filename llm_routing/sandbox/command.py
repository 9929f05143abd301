"""The sandbox's command line: options, messages and exit status.

`manage.py llm_sandbox` and `python -m llm_routing.sandbox` share it.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence

from .server import PortTaken, Sandbox, serve

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8099


class CannotListen(Exception):
    """The sandbox could not start; the message says why and how to fix it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sandbox's options to a parser."""
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port",
        type=_port,
        default=DEFAULT_PORT,
        help="port to listen on, 0 for any free one (%(default)s)",
    )
    parser.add_argument(
        "--require-key", default="", metavar="KEY", help="answer 401 to requests without this key"
    )
    parser.add_argument(
        "--refuse-unknown-models",
        action="store_true",
        help="answer 404 to models that are not on offer",
    )


def run(
    *,
    host: str,
    port: int,
    require_key: str,
    refuse_unknown_models: bool,
    say: Callable[[str], None],
) -> None:
    """Serves until SIGINT or SIGTERM; prints one line when ready. Raises `CannotListen`."""

    async def listen() -> None:
        sandbox = Sandbox(
            host, port, require_key=require_key, refuse_unknown_models=refuse_unknown_models
        )
        await serve(sandbox, lambda started: say(_ready(started)))

    try:
        asyncio.run(listen())
    except PortTaken as error:
        raise CannotListen(
            f"Port {port} on {host} is taken or not allowed. Choose another with --port, "
            "or --port 0 for any free one."
        ) from error
    except OSError as error:
        raise CannotListen(f"Cannot listen on {host}: {error.strerror or error}.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line without Django. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m llm_routing.sandbox",
        description="A server that answers as LLM vendors do, without a model.",
    )
    add_arguments(parser)
    try:
        run(**vars(parser.parse_args(arguments)), say=_say)
    except CannotListen as error:
        parser.exit(1, f"{error}\n")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _port(given: str) -> int:
    port = int(given)
    if not 0 <= port <= 65_535:
        raise ValueError(given)
    return port


def _ready(sandbox: Sandbox) -> str:
    return (
        f"Sandbox ready on {sandbox.url} "
        f"(OpenAI clients: {sandbox.openai_url}, Anthropic clients: {sandbox.url})"
    )
