"""A Redis of a test's own, which it may stop, kill and start again at the same address."""

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from project.processes import PORTS, free_port, is_free, stop
from tests.services import program

START_SECONDS = 90.0
BUS = 10_000


@dataclass
class MortalRedis:
    """Not running until it is started; it keeps nothing on disk, so a new start is empty."""

    directory: Path
    options: Sequence[str] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.port = self.port or free_port()
        binary = program("redis-server", alternative="valkey-server", package="redis-server")
        arguments = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        arguments += ["--appendonly", "no", "--dir", str(self.directory), *self.options]
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with redis.Redis(port=self.port, socket_timeout=5) as client:
                    client.ping()
                return
            except redis.AuthenticationError:
                return
            except redis.RedisError:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            stop(self.process)


@contextmanager
def cluster(directory: Path, masters: int = 3) -> Iterator[list[MortalRedis]]:
    """A Redis Cluster of so many masters, each with its share of the slots."""
    with ExitStack() as stack:
        nodes = []
        for number in range(masters):
            (directory / str(number)).mkdir()
            port = _port_of_node()
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "30000")
            node = MortalRedis(directory / str(number), options, port)
            stack.callback(node.end)
            node.start()
            nodes.append(node)
        share = 16_384 // masters
        for number, node in enumerate(nodes):
            last = 16_383 if number == masters - 1 else (number + 1) * share - 1
            command(node, "CLUSTER", "ADDSLOTSRANGE", number * share, last)
            for other in nodes:
                command(node, "CLUSTER", "MEET", "127.0.0.1", other.port)
        for node in nodes:
            _until(lambda node=node: b"cluster_state:ok" in command(node, "CLUSTER", "INFO"))
            _until(
                lambda node=node: command(node, "CLUSTER", "NODES").count(b" connected ") == masters
            )
        yield nodes


@dataclass
class Watched:
    """A master and a replica of it, and the Sentinel that watches them."""

    master: MortalRedis
    replica: MortalRedis
    sentinel: MortalRedis

    @property
    def url(self) -> str:
        # The first is nobody: Sentinels may be gone.
        dead = free_port()
        return f"redis+sentinel://127.0.0.1:{dead},127.0.0.1:{self.sentinel.port}/cache/0"


@contextmanager
def watched(directory: Path) -> Iterator[Watched]:
    """A master that fails over to its replica two seconds after it is gone."""
    with ExitStack() as stack:
        for name in ("master", "replica", "sentinel"):
            (directory / name).mkdir()
        master = MortalRedis(directory / "master")
        stack.callback(master.end)
        master.start()
        replica = MortalRedis(directory / "replica", ("--replicaof", "127.0.0.1", str(master.port)))
        stack.callback(replica.end)
        replica.start()
        _until(lambda: b"master_link_status:up" in command(replica, "INFO", "replication"))
        configuration = directory / "sentinel" / "sentinel.conf"
        port = free_port()
        configuration.write_text(
            f"""
            port {port}
            bind 127.0.0.1
            dir {directory / "sentinel"}
            sentinel monitor cache 127.0.0.1 {master.port} 1
            sentinel down-after-milliseconds cache 2000
            sentinel failover-timeout cache 5000
            """.replace("            ", "")
        )
        binary = program("redis-server", alternative="valkey-server", package="redis-server")
        sentinel = MortalRedis(directory / "sentinel", port=port)
        sentinel.process = subprocess.Popen(
            [binary, str(configuration), "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(sentinel.end)
        _until(lambda: _knows_replica(sentinel))
        yield Watched(master, replica, sentinel)


def _knows_replica(sentinel: MortalRedis) -> bool:
    try:
        return b"slaves=1" in command(sentinel, "INFO", "sentinel")
    except redis.RedisError:
        return False


def command(server: MortalRedis, *words: str | int) -> bytes:
    with redis.Redis(port=server.port, socket_timeout=60) as client:
        connection: Any = client.connection_pool.get_connection()
        try:
            connection.send_command(*words)
            said = connection.read_response()
            return said if isinstance(said, bytes) else str(said).encode()
        finally:
            client.connection_pool.release(connection)


def _until(is_so: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _port_of_node() -> int:
    """Returns a free port whose bus, at the port 10 000 above it, is free too."""
    while True:
        port = free_port()
        if port + BUS in PORTS and is_free(port + BUS):
            return port
