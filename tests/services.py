"""Throwaway databases and a Redis on free ports, from the system's programs.

They run under a process of their own (this file, as a script) that ends them and removes their data
as soon as its standard input closes: when the tests are over, and also when they are killed.
"""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
import pymysql
import redis

from project.processes import ROOT, free_port, stop

START_SECONDS = 60.0
SUPERUSER = "tests"


class CannotStart(Exception):
    """A server is not installed or does not come up; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Services:
    """Where the servers are. `database_url` names a maintenance database; `redis_url` is empty
    if there is no Redis: state is in memory."""

    database_url: str
    redis_url: str


@contextmanager
def running(kind: str = "servers") -> Iterator[Services]:
    """The servers of a kind (`KINDS`), from another process. Raises CannotStart."""
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "tests.services", kind],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    try:
        line = supervisor.stdout.readline()
        if not line:
            raise CannotStart("The servers did not start; the reason is above.")
        yield Services(**json.loads(line))
    finally:
        supervisor.stdin.close()
        supervisor.wait()
        supervisor.stdout.close()


def program(name: str, *, alternative: str = "", package: str) -> str:
    """The path of a server's program; Debian keeps PostgreSQL's outside PATH."""
    versions = Path("/usr/lib/postgresql")
    by_version = sorted(versions.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    found = shutil.which(name, path=path) or (shutil.which(alternative) if alternative else None)
    if found is None and by_version:
        found = str(by_version[-1])
    if found is None:
        raise CannotStart(f"{name} is not installed: sudo apt-get install {package}")
    return found


def owner() -> str | None:
    """The user that database servers run as: they refuse root."""
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


@contextmanager
def postgresql(directory: Path) -> Iterator[str]:
    """A PostgreSQL that keeps nothing safe, and so is fast; its URL."""
    user = owner()
    group = None if user is None else pwd.getpwnam(user).pw_gid
    extra_groups: list[int] | None = None if user is None else []
    data = directory / "postgresql"
    data.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(data, user, group)
    initdb = [program("initdb", package="postgresql"), "--pgdata", str(data), "--no-sync"]
    initdb += ["--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C"]
    outcome = subprocess.run(
        initdb,
        user=user,
        group=group,
        extra_groups=extra_groups,
        cwd="/",
        capture_output=True,
        check=False,
    )
    if outcome.returncode:
        raise CannotStart(f"initdb: {outcome.stderr.decode(errors='replace')}")

    port = free_port()
    command = [program("postgres", package="postgresql"), "-D", str(data), "-p", str(port)]
    command += ["-h", "127.0.0.1", "-k", str(data)]
    for setting in ("fsync=off", "synchronous_commit=off", "full_page_writes=off"):
        command += ["-c", setting]
    log = directory / "postgresql.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            user=user,
            group=group,
            extra_groups=extra_groups,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"postgresql://{SUPERUSER}@127.0.0.1:{port}/postgres"

    def is_up() -> bool:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        wait_until(is_up, server, log)
        yield url
    finally:
        server.send_signal(2)  # SIGINT: ends the sessions instead of waiting for them
        stop(server)


@contextmanager
def mariadb(directory: Path) -> Iterator[str]:
    """A MariaDB that keeps nothing safe, and so is fast; its URL. Collation and SQL mode are its
    defaults: it compares without regard to case, as most installations do."""
    install_mariadb(directory)
    fast = ("--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync")
    with running_mariadb(directory, free_port(), *fast) as (url, _server):
        yield url


def install_mariadb(directory: Path) -> None:
    """Writes the files of an empty server. Raises CannotStart."""
    data = directory / "mariadb"
    data.mkdir(mode=0o700)
    if (user := owner()) is not None:
        shutil.chown(data, user)
    install = [program("mariadb-install-db", package="mariadb-server"), "--no-defaults"]
    install += [f"--datadir={data}", "--auth-root-authentication-method=normal", *_as_owner()]
    install += ["--skip-test-db", "--skip-name-resolve"]
    outcome = subprocess.run(install, cwd="/", capture_output=True, check=False)
    if outcome.returncode:
        raise CannotStart(f"mariadb-install-db: {outcome.stderr.decode(errors='replace')}")


@contextmanager
def running_mariadb(
    directory: Path, port: int, *options: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server on the files of `install_mariadb` until the block ends, and its URL."""
    data = directory / "mariadb"
    command = [program("mariadbd", package="mariadb-server"), "--no-defaults", *_as_owner()]
    command += [f"--datadir={data}", "--bind-address=127.0.0.1", f"--port={port}", *options]
    command += [f"--socket={data / 'socket'}", "--skip-log-bin", "--skip-name-resolve"]
    log = directory / "mariadb.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )

    def is_up() -> bool:
        try:
            pymysql.connect(host="127.0.0.1", port=port, user="root", connect_timeout=2).close()
        except pymysql.MySQLError:
            return False
        return True

    try:
        wait_until(is_up, server, log)
        yield f"mysql://root@127.0.0.1:{port}/mysql", server
    finally:
        stop(server)


def _as_owner() -> list[str]:
    user = owner()
    return [] if user is None else [f"--user={user}"]


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """A Redis without persistence; its URL."""
    port = free_port()
    binary = program("redis-server", alternative="valkey-server", package="redis-server")
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    command += ["--save", "", "--appendonly", "no", "--databases", "64"]
    log = directory / "redis.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )

    def is_up() -> bool:
        try:
            with redis.Redis(port=port, socket_connect_timeout=2) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    try:
        wait_until(is_up, server, log)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        stop(server)


def wait_until(is_up: Callable[[], bool], server: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server answers. Raises CannotStart with its log where it does not."""
    deadline = time.monotonic() + START_SECONDS
    while not is_up():
        if server.poll() is not None or time.monotonic() > deadline:
            raise CannotStart(f"{log.stem} did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)


KINDS = ("servers", "mariadb")
"""What `TEST_SERVICES` may ask for: PostgreSQL with Redis, or MariaDB alone."""


def main() -> int:
    """Start them, tell their addresses on one line, wait for the end of standard input."""
    is_mariadb = sys.argv[1] == "mariadb"
    memory = Path("/dev/shm")
    base = memory if os.access(memory, os.W_OK) else None
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="llm-routing-", dir=base))
        )
        directory.chmod(0o755)  # PostgreSQL's user has to reach its own directory within
        try:
            services = Services(
                stack.enter_context((mariadb if is_mariadb else postgresql)(directory)),
                "" if is_mariadb else stack.enter_context(redis_server(directory)),
            )
        except CannotStart as error:
            print(error, file=sys.stderr)
            return 1
        print(json.dumps(asdict(services)), flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
