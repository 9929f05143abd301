"""`make run`: sets the project up, serves it, and shows one routed completion.

Everything it does an operator could do by hand with `manage.py`; it changes nothing it finds done.
"""

import io
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import httpx

from llm_routing.system.private_files import private_directory

from .environment import DEVELOPMENT_FILE, var_dir
from .processes import die_with_parent, free_port, is_free, spawn, stop

HOST = "127.0.0.1"
SANDBOX_PORT = 8099
START_SECONDS = 60.0


class CannotRun(Exception):
    """The project cannot start; the message says why and what to do."""


def main() -> int:
    """Run until interrupted; the exit code says whether anything failed."""
    die_with_parent(os.getppid())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt)
    children: list[subprocess.Popen[bytes]] = []
    try:
        serve(children)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0
    except CannotRun as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        # A second Ctrl-C must not leave half of them running.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        for child in reversed(children):
            stop(child)
    return 0


def serve(children: list[subprocess.Popen[bytes]]) -> None:
    """Set up, start, show, wait. Started processes are added to `children` at once."""
    wanted_port = os.environ.get("PORT") or "8000"
    if not wanted_port.isdecimal() or not 0 < int(wanted_port) < 65_536:
        raise CannotRun(f"PORT must be a number from 1 to 65535, not {wanted_port!r}.")
    port = int(wanted_port)
    if not is_free(port):
        raise CannotRun(
            f"Port {port} of {HOST} is taken by another program, perhaps by an earlier make run.\n"
            f"Choose another one: PORT={port + 1} make run"
        )
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    os.environ.setdefault("LLM_DRAIN_TIMEOUT", "5")  # a person waits at the terminal
    keep_development_settings()

    import django

    django.setup()
    login = set_up()

    if wanted := sandbox_port():
        say(f"Starting the sandbox on port {wanted}, which answers without a provider's key ...")
        children.append(spawn([sys.executable, "manage.py", "llm_sandbox", "--port", str(wanted)]))
        wait_until(lambda: not is_free(wanted), children, "The sandbox")
    say(f"Starting the server on port {port} ...")
    uvicorn = ["--host", HOST, "--port", str(port), "--log-level", "warning"]
    uvicorn += ["--timeout-graceful-shutdown", "5"]
    children.append(spawn([sys.executable, "-m", "uvicorn", "project.asgi:application", *uvicorn]))
    base_url = f"http://{HOST}:{port}"
    with httpx.Client(base_url=base_url, timeout=60, trust_env=False) as client:
        wait_until(lambda: answers(client), children, "The server")
        key, is_new_key = working_key(client)
        show_completion(client, key)
    show_addresses(base_url, key, is_new_key, login)
    while all(child.poll() is None for child in children):
        time.sleep(0.5)
    raise CannotRun("A server process has ended by itself; its last words are above.")


def say(step: str) -> None:
    """Print what happens now: some steps take a while."""
    print(step, flush=True)


def keep_development_settings() -> None:
    """On the first run, choose development settings and where the sandbox is, and write them to the
    file that `project.settings` reads for every command of this clone."""
    path = var_dir() / DEVELOPMENT_FILE
    if path.exists():
        return
    port = SANDBOX_PORT if is_free(SANDBOX_PORT) else free_port()
    chosen = {"DJANGO_DEBUG": "1", "LLM_SANDBOX_URL": f"http://{HOST}:{port}"}
    missing = {name: value for name, value in chosen.items() if name not in os.environ}
    os.environ.update(missing)
    if not missing:
        return
    say(f"Writing development settings for every command of this clone to {path} ...")
    lines = ["# Written by `make run`. Delete this file before this clone serves anybody else."]
    lines += [f"{name}={value}" for name, value in missing.items()]
    write_privately(path, "\n".join(lines) + "\n")


def sandbox_port() -> int | None:
    """The port of this machine that the configuration expects a sandbox on, None where it runs
    already, is elsewhere or is not wanted. Raises CannotRun where another program has the port."""
    from llm_routing.models import Provider

    row = Provider.objects.filter(name="sandbox", is_active=True).first()
    address = urlsplit(row.base_url if row else "")
    if address.hostname not in ("127.0.0.1", "localhost") or address.port is None:
        return None
    if is_free(address.port):
        return address.port
    try:
        health = httpx.get(f"{address.scheme}://{address.netloc}/v1/models", timeout=5)
    except httpx.TransportError:
        health = None
    if health is None or health.is_error:
        raise CannotRun(
            f"Port {address.port} of {HOST}, the sandbox's, is taken by another program.\n"
            "Stop that one, then run the same command again."
        )
    return None


@dataclass(frozen=True, slots=True)
class Login:
    """An administrator of the admin. `password` is empty for one who was there already."""

    name: str
    password: str = field(default="", repr=False)


def set_up() -> Login:
    """Migrate, configure, and return an administrator, who is created if there is none."""
    from django.core.management import call_command

    say("Creating or updating the database ...")
    call_command("llm_migrate", interactive=False, verbosity=0)
    say("Writing providers, models and routes ...")
    call_command("setup_llm_configuration", verbosity=0)
    return administrator()


def administrator() -> Login:
    """The first administrator who can sign in; the password of an existing one is not changed."""
    from django.contrib.auth import get_user_model

    model = get_user_model()
    users = model.objects.filter(is_superuser=True, is_staff=True, is_active=True)
    if existing := users.order_by("pk").first():
        return Login(existing.get_username())
    name = "admin"
    while model.objects.filter(**{model.USERNAME_FIELD: name}).exists():
        name = f"admin-{secrets.token_hex(3)}"
    password = secrets.token_urlsafe(12)
    model.objects.create_superuser(username=name, email="", password=password)
    return Login(name, password)


def wait_until(
    ready: Callable[[], bool], children: list[subprocess.Popen[bytes]], what: str
) -> None:
    """Return once `ready()`. Raises CannotRun where a child ends before that, or time is over."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if any(child.poll() is not None for child in children):
            raise CannotRun(f"{what} did not start; its last words are above.")
        if time.monotonic() > deadline:
            raise CannotRun(f"{what} did not answer within {START_SECONDS:.0f} seconds.")
        time.sleep(0.1)


def answers(client: httpx.Client) -> bool:
    """Whether the server takes requests, whatever it says to this one."""
    try:
        client.get("/api/llm/health")
    except httpx.TransportError:
        return False
    return True


def working_key(client: httpx.Client) -> tuple[str, bool]:
    """An API key the server takes, and whether it was made just now.

    The database holds digests alone, so the key of the first run is kept in a file for the next.
    """
    from django.conf import settings

    path: Path = settings.VAR_DIR / "quickstart_key"
    if path.exists():
        key = path.read_text().strip()
        if client.get("/api/llm/models", headers=bearer(key)).status_code != 401:
            return key, False
    key = create_key()
    path.unlink(missing_ok=True)
    write_privately(path, key)
    return key, True


def write_privately(path: Path, text: str) -> None:
    """Write a new file that its owner alone may read."""
    private_directory(path.parent)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def create_key() -> str:
    """A new API key under a name that no earlier key has."""
    from django.core.management import call_command

    output = io.StringIO()
    name = f"quickstart-{secrets.token_hex(3)}"
    call_command("create_llm_key", name, "--json", stdout=output)
    key: str = json.loads(output.getvalue())["key"]
    return key


def bearer(key: str) -> dict[str, str]:
    """The header that carries an API key."""
    return {"Authorization": f"Bearer {key}"}


REQUEST = {
    "messages": "Say hello in one sentence.",
    "use_case": "general_purpose",
    "tier": "standard",
}


def show_completion(client: httpx.Client, key: str) -> None:
    """Send one completion through the running server and print the answer and how it came about.

    A refusal is printed and is no reason to stop: the admin is where it gets mended.
    """
    response = client.post("/api/llm/complete", json=REQUEST, headers=bearer(key))
    if response.is_error:
        print(f"The completion failed with {response.status_code}: {response.text}")
        return
    answer: dict[str, Any] = response.json()
    usage = answer["usage"]
    cost = answer["cost_usd"]
    facts = {
        "answer": answer["content"],
        "use case": answer["use_case"],
        "tier": answer["tier"],
        "model": f"{answer['provider']}/{answer['model']}",
        "tokens": f"{usage['input_tokens']} in, {usage['output_tokens']} out",
        "cost": "no price known" if cost is None else f"${cost}",
        "latency": f"{answer['latency_ms']:.1f} ms",
    }
    print("\nA routed completion:")
    for name, value in facts.items():
        print(f"  {name:<9} {value}")


def show_addresses(base_url: str, key: str, is_new_key: bool, login: Login) -> None:
    """Print what a newcomer needs next."""
    from django.conf import settings

    made = "made now" if is_new_key else "of an earlier run"
    print(f"\nAPI key ({made}, kept in {settings.VAR_DIR / 'quickstart_key'}):\n  {key}")
    print("\nTry it:")
    print(f"  curl {base_url}/api/llm/complete \\")
    print(f"    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\")
    print(f"    -d '{json.dumps(REQUEST)}'")
    print(f"\nAdmin:     {base_url}/admin/")
    print(f"  login    {login.name}")
    if login.password:
        print(f"  password {login.password}   (shown this once)")
    else:
        print("  password as before; to set another one:")
        print(f"           .venv/bin/python manage.py changepassword {login.name}")
    print(f"API docs:  {base_url}/api/llm/docs\nOpenAI clients:    base_url={base_url}/v1")
    print(f"Anthropic clients: base_url={base_url}")
    print("\nCommands, in another terminal: .venv/bin/python manage.py llm_health_sweep")
    print("\nServing. Ctrl-C stops everything.", flush=True)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
