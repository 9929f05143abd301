"""A PostgreSQL of a test's own that ends, dies or falls silent, and comes back with its data."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests import services

SECONDS = 180


class Database:
    """A server on a port of its own. `url` is that of its maintenance database."""

    def __init__(self, data: Path, url: str) -> None:
        self.url = url
        self.is_running = True
        self._data = data
        self._port = url.split(":")[2].split("/")[0]

    def stop(self) -> None:
        """It ends, and its sessions with it."""
        self.is_running = False
        self._control("stop", "-m", "fast")

    def kill(self) -> None:
        """It dies: SIGKILL to every one of its processes."""
        self.is_running = False
        self._signal(signal.SIGKILL)
        # They would keep a new one away as long as nobody has waited for the old one's end.
        (self._data / "postmaster.pid").unlink()
        (self._data / f".s.PGSQL.{self._port}.lock").unlink()

    def start(self) -> None:
        """It comes back."""
        options = f"-p {self._port} -h 127.0.0.1 -k {self._data} -c fsync=off"
        self._control("start", "-w", "-l", str(self._data / "again.log"), "-o", options)
        self.is_running = True

    def recover(self) -> None:
        """It runs, whatever has happened to it."""
        if self.is_running:
            self.thaw()
        else:
            self.start()

    def freeze(self) -> None:
        """It falls silent: connections stay, new ones come about, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        parent = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(parent, signal.SIGSTOP)  # so that it makes no more of them
        for process in (*children(parent), parent):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def _control(self, *arguments: str) -> None:
        program = services.program("pg_ctl", package="postgresql")
        user = services.owner()
        outcome = subprocess.run(
            [program, "-D", str(self._data), *arguments],
            user=user,
            extra_groups=None if user is None else [],
            cwd="/",
            stdout=subprocess.DEVNULL,  # the server would keep a pipe open
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=SECONDS,
        )
        assert outcome.returncode == 0, arguments


def children(parent: int) -> list[int]:
    """The processes that `parent` has started and that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in parentheses, may hold anything.
            state_and_parent = path.read_text().rpartition(")")[2].split()
            if int(state_and_parent[1]) == parent:
                found.append(int(path.parent.name))
    return found


@contextmanager
def own_postgresql() -> Iterator[Database]:
    """A server that runs until the block ends."""
    # Not below pytest's own directory, which PostgreSQL's user cannot reach.
    with tempfile.TemporaryDirectory(prefix="llm-routing-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with services.postgresql(directory) as url:
            database = Database(directory / "postgresql", url)
            try:
                yield database
            finally:
                if database.is_running:
                    database.thaw()
                    database.stop()
