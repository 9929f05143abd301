"""Checks after every case: usage records, deadlines, leaks and secrets."""

import asyncio
import gc
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from llm_routing.models import UsageRecord
from llm_routing.sandbox import Sandbox

from .callers import Client
from .upstream import RawUpstream, until

MOST_ATTEMPTS = 4
NOT_REACHED = (
    "connection_failed",
    "name_resolution_failed",
    "tls_failed",
    "certificate_rejected",
    "address_forbidden",
    "connect_timeout",
)
LASTING = ("SharedBreakers.",)
"""Tasks that live as long as the routers."""
SERVERS_OF_OURS = ("RawUpstream.", "RequestHandler.")


def sockets() -> list[str]:
    """The sockets that this process has open, by their ends as the kernel shows them. Those of the
    database's pool, which keeps some, are counted apart."""
    table = {line.split()[9]: line.split()[1:4] for line in _tcp_table()}
    port = str(connection.settings_dict["PORT"] or 0)
    to_database = f":{int(port):04X}"
    ends = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            name = str(entry.readlink())
        except FileNotFoundError:
            continue  # the directory's own
        if name.startswith("socket:["):
            here, there, state = table.get(name[8:-1], ("", "", "no TCP"))
            if not there.endswith(to_database):
                ends.append(f"{here} {there} {state}")
    return ends


def _tcp_table() -> list[str]:
    return Path("/proc/self/net/tcp").read_text().splitlines()[1:]


def working_tasks(*others: str) -> set[asyncio.Task[Any]]:
    """Returns the tasks of this loop that belong to the gateway, except `others`, by name."""
    found = set()
    for task in asyncio.all_tasks():
        name = getattr(task.get_coro(), "__qualname__", "")
        if task is not asyncio.current_task() and not name.startswith((*SERVERS_OF_OURS, *others)):
            found.add(task)
    return found


def database_connections() -> list[str]:
    """Returns the connections that threads of this process hold, without idle ones of a pool."""
    # By type: `isinstance` would have lazy objects, as a request's user is, ask the database.
    wrappers = [each for each in gc.get_objects() if issubclass(type(each), BaseDatabaseWrapper)]
    return [repr(wrapper) for wrapper in wrappers if wrapper.connection is not None]


def everything_stored() -> str:
    """Yields every value of every table of the database."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found += [f"{table}: {row}" for row in cursor.fetchall()]
    return "\n".join(found)


class Witness:
    """Compares the state before and after a case. Created once the gateway runs."""

    def __init__(
        self,
        client: Client,
        sandbox: Sandbox,
        raw: RawUpstream,
        *,
        secrets: Sequence[str],
        state: Path,
    ) -> None:
        self._client = client
        self._sandbox = sandbox
        self._raw = raw
        self._secrets = secrets
        self._state = state
        self._files: list[str] = []
        self.may_send_again = False
        """Whether connections are closed under requests, which are then sent over new ones."""
        self._tasks = working_tasks()

    def asked(self) -> list[str]:
        """The models that the upstreams were asked for, in order of arrival within each."""
        asked = [entry.model for entry in self._sandbox.journal.entries if entry.method == "POST"]
        return asked + [each.model for each in self._raw.log]

    async def everything_ended(self) -> None:
        """No call of ours goes on at a provider, and no task of it is left, soon after the caller
        had its answer."""
        entries = self._sandbox.journal.entries
        assert await until(
            lambda: (
                all(entry.duration is not None for entry in entries)
                and all(each.ended is not None for each in self._raw.log)
            )
        ), "a provider is still being asked"
        await self._no_task_is_left(*LASTING)

    async def nothing_goes_on(self) -> None:
        """Once the routers are closed, none of their own tasks is left either."""
        await self._no_task_is_left()

    async def _no_task_is_left(self, *others: str) -> None:
        def left() -> set[asyncio.Task[Any]]:
            return working_tasks(*others) - self._tasks

        assert await until(lambda: not left()), f"tasks go on: {left()}"

    async def accounts_hold(self) -> None:
        """One record for each attempt that an upstream logged. Once the ledger is shipped."""
        records = [record async for record in UsageRecord.objects.all()]
        reached = [record for record in records if record.error_code not in NOT_REACHED]
        recorded, asked = Counter(record.model for record in reached), Counter(self.asked())
        if self.may_send_again:
            assert recorded <= asked, (recorded, asked)
        else:
            assert recorded == asked, (recorded, asked)
        attempts: dict[str, list[int]] = defaultdict(list)
        for record in records:
            attempts[record.request_id].append(record.attempt)
            if record.outcome != "failure" or record.is_estimated:
                assert record.input_tokens > 0, record
            if record.outcome == "success":
                assert record.status == 200
        for numbers in attempts.values():
            assert sorted(numbers) == list(range(1, len(numbers) + 1))
            assert len(numbers) <= MOST_ATTEMPTS

    def look_at_files(self) -> None:
        """Remembers what the gateway keeps on disk just now."""
        for path in self._state.rglob("*"):
            if path.is_file():
                self._files.append(path.read_bytes().decode("latin-1"))

    async def nothing_leaked(self, records: Iterable[logging.LogRecord]) -> None:
        """No secret where it does not belong: log, replies, database, Redis, files."""
        lines = "\n".join(f"{record.getMessage()} {record.exc_text or ''}" for record in records)
        refusals = b"\n".join(
            reply.body + repr(dict(reply.headers)).encode()
            for reply in self._client.replies
            if reply.status != 200
        ).decode()
        answers = b"\n".join(reply.body for reply in self._client.replies).decode()
        stored = await sync_to_async(everything_stored)()
        redis = "\n".join([value async for value in everything_in_redis()])
        self.look_at_files()
        for place, text in {
            "the log": lines,
            "an error": refusals,
            "the database": stored,
            "Redis": redis,
            "a file": "\n".join(self._files),
        }.items():
            for secret in (*self._secrets, *self._client.marks):
                assert secret not in text, f"{secret} is in {place}"
        for secret in self._secrets:
            assert secret not in answers


async def everything_in_redis() -> Any:
    """Yields every key and value of the configured Redis, as text."""
    from redis.asyncio import Redis

    from llm_routing.conf import get_settings

    url = get_settings().redis_url
    if url is None:
        return
    async with Redis.from_url(url.get_secret_value()) as client:
        async for key in client.scan_iter():
            dumped = await client.dump(key)
            yield key.decode("latin-1") + (dumped or b"").decode("latin-1")


async def came_back(look: Callable[[], list[str]], before: list[str], what: str) -> None:
    """Asserts that there are no more than before, a moment after the end."""
    for turn in range(1200):
        now = look()
        if len(now) <= len(before):
            return
        if turn == 0:
            gc.collect()
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what}: {before} before, {now} now")
