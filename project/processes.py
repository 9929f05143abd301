"""Child processes that never outlive their parent, and free ports for them.

Stdlib only: this file is also run by itself, as the first thing a child does.
"""

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
ROOT = Path(__file__).resolve().parent.parent


PORTS = range(16_384, 32_768)
"""Below the ports that Linux gives to outgoing connections, which could take one at any time."""


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a random TCP port of `host` that nobody listens on at this moment. Processes that
    look for a port at the same time are unlikely to get the same one."""
    while not is_free(port := random.choice(PORTS), host):  # noqa: S311  # not for cryptography
        pass
    return port


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when `parent` ends, in whatever way; Linux only.

    https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we could ask
        sys.exit(1)


def spawn(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    cwd: Path = ROOT,
) -> subprocess.Popen[bytes]:
    """Start a child that gets SIGTERM when this process ends, even by SIGKILL.

    It has a session of its own, so that Ctrl-C reaches it through its parent alone, in order. Its
    output goes to `output`, or where ours goes. Call it from the main thread: the kernel counts
    the end of the calling thread.
    """
    return subprocess.Popen(
        [sys.executable, "-S", str(Path(__file__).resolve()), str(os.getpid()), *command],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        start_new_session=True,
    )


def stop(child: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """End a child: politely, and after `seconds` in any case."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
