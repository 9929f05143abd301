"""The sandbox's command in a process of its own."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

MODULE = [sys.executable, "-m", "llm_routing.sandbox"]
# Django's command in a project with default settings.
DJANGO = """
import sys
from django.conf import settings
from llm_routing.management.commands.llm_sandbox import Command
settings.configure()
Command().run_from_argv(["manage.py", "llm_sandbox", *sys.argv[1:]])
"""
MANAGE = [sys.executable, "-c", DJANGO]
both_commands = pytest.mark.parametrize("command", [MODULE, MANAGE], ids=["module", "manage"])


@contextmanager
def started(*command: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    with process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            if process.poll() is None:
                process.kill()


@both_commands
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_one_line_answers_and_exits_cleanly(command: list[str], number: signal.Signals):
    with started(*command, "--port", "0") as (process, line):
        url = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert url is not None, process.communicate()
        assert int(url[1]) > 0
        with urllib.request.urlopen(f"{url[0]}/v1/models", timeout=90) as response:
            assert json.load(response)["data"][0]["id"] == "sandbox-premium"
        process.send_signal(number)
        out, err = process.communicate(timeout=90)
    assert (process.returncode, out, err) == (0, "", "")


@both_commands
def test_a_port_in_use_is_reported(command: list[str]):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*command, "--port", port], capture_output=True, text=True, timeout=90, check=False
        )
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_invalid_address_is_reported():
    done = subprocess.run(
        [*MODULE, "--host", "192.0.2.1", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1
    assert "Cannot listen on 192.0.2.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_sandbox_needs_neither_django_nor_the_formats():
    code = (
        "import sys, llm_routing.sandbox.command; "
        "names = ('django', 'llm_routing.core', 'llm_routing.formats', 'llm_routing.backends'); "
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=True
    )
    assert done.stdout.strip() == "[]"
