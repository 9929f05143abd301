"""Answers to idempotency keys in files, which the workers of one machine share without Redis."""

import asyncio
import logging
import math
import os
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from llm_routing.core.cached_answer import CachedAnswer, answer_from_json, answer_to_json
from llm_routing.core.caching.keys import owner_of
from llm_routing.core.caching.ports import CacheHit, LeaseUnavailable
from llm_routing.core.codec import decode, encode
from llm_routing.core.ports import Cipher, Clock
from llm_routing.system.locked_files import open_if_abandoned, try_lock
from llm_routing.system.private_files import private_directory

logger = logging.getLogger(__name__)

SCHEMA = 2
PAUSE_SECONDS = 60.0
CLEANUP_SECONDS = 1.0
# The modification time of a file is the time at which it expires, on the monotonic clock, which
# starts with the machine. An unfinished file has a time of the wall clock, which is decades later.
_UNFINISHED_NS = 10**9 * 10**9
_NANOSECONDS = 10**9

_STORED_AT = re.compile(rb'\{"schema":\d+,"stored_at":(\d+(?:\.\d+)?),')

try:
    BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
except OSError:
    BOOT = ""
"""Identifies this boot of this machine. Times of other monotonic clocks are meaningless here."""

_Known = tuple[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Retention:
    """Approximate limits of a directory: each process checks them only after some writes."""

    max_entries: int = 1000
    max_bytes: int = 100 * 1024 * 1024


class FileCache:
    """`core.caching.ports.SharedCache` over `directory`: a file for each key, locked by the process
    that calls upstream.

    The kernel releases the lock when its holder ends, however it ends. Files are encrypted. Their
    times are those of the monotonic clock, which all processes of a machine share. If there are too
    many files, those that expire first are removed.
    """

    def __init__(
        self, directory: Path, *, cipher: Cipher, clock: Clock, retention: Retention | None = None
    ) -> None:
        self._directory = directory
        self._retention = retention or Retention()
        self._cipher = cipher
        self._clock = clock
        self._paused_until = clock.monotonic()
        self._lock = Lock()
        self._entries = self._bytes = 0
        self._known: dict[str, tuple[int, int]] = {}
        self._cleans_up_at = -math.inf
        self._forget_earlier_boots()
        self._sweep()

    async def claim(self, key: str, max_age: float) -> "CacheHit | FileLease | LeaseUnavailable":
        """See `SharedCache.claim`. A few system calls on a small file, without a thread."""
        if self._clock.monotonic() < self._paused_until:
            return LeaseUnavailable.UNAVAILABLE
        try:
            return self._claim(key, max_age)
        except OSError as error:
            self.pause(error)
            return LeaseUnavailable.UNAVAILABLE

    async def put(self, key: str, answer: CachedAnswer, ttl: float) -> None:
        """See `SharedCache.put`. If another process has the lease, its answer is stored instead."""
        claimed = await self.claim(key, 0)
        if isinstance(claimed, FileLease):
            await claimed.publish(answer, ttl)

    async def aclose(self) -> None:
        """No-op: no file is open. Other processes may still read the files; the next process that
        starts removes expired ones."""

    def write(self, key: str, descriptor: int, answer: CachedAnswer, ttl: float) -> None:
        """Writes an answer to a locked file. Raises `OSError`, and `ValueError` if it cannot encode
        the answer."""
        stored_at = self._clock.monotonic()
        text = answer_to_json(key, answer)
        sealed = self._cipher.encrypt(text, self._bound_to(key, stored_at, ttl))
        entry = {"schema": SCHEMA, "stored_at": stored_at, "ttl": ttl, "answer": sealed}
        data = encode(entry)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, data, 0)
        due = int((stored_at + ttl) * _NANOSECONDS)
        os.utime(descriptor, ns=(due, due))
        self._written(len(data), ttl)

    def pause(self, error: OSError) -> None:
        """Stops using the directory for a while, because the disk is full or not writable."""
        self._paused_until = self._clock.monotonic() + PAUSE_SECONDS
        logger.warning("Workers do not share answers for %g s: %s", PAUSE_SECONDS, error.strerror)

    def _claim(self, key: str, max_age: float) -> "CacheHit | FileLease | LeaseUnavailable":
        path = self._directory / key
        while True:
            descriptor = _open(path)
            is_locked = try_lock(descriptor)
            found = self._read(key, descriptor, max_age)
            if found is not None or not is_locked:
                os.close(descriptor)
                return found or LeaseUnavailable.BUSY
            if os.fstat(descriptor).st_nlink:
                return FileLease(self, key, path, descriptor)
            # The file was removed between our open and our lock, so no other process can find it.
            os.close(descriptor)

    def _read(self, key: str, descriptor: int, max_age: float) -> CacheHit | None:
        """Returns the answer in the file; None if it cannot be read or is too old."""
        try:
            entry = decode(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
            stored_at, lifetime = entry["stored_at"], entry["ttl"]
            age = self._clock.monotonic() - stored_at
            ttl = lifetime - age
            if entry["schema"] != SCHEMA or not 0 <= age < max_age or ttl <= 0:
                return None
            name = self._bound_to(key, stored_at, lifetime)
            answer = answer_from_json(key, self._cipher.decrypt(entry["answer"], name))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None
        return CacheHit(answer, age, ttl)

    def _bound_to(self, key: str, stored_at: float, ttl: float) -> str:
        """Returns the associated data of the seal: file name, boot, time and lifetime."""
        return f"{self._directory.name}/{key} {BOOT} {float(stored_at)!r} {float(ttl)!r}"

    def _written(self, size: int, ttl: float) -> None:
        """Cleans the directory up: at once after a number of writes, else when an entry expires."""
        with self._lock:
            self._entries += 1
            self._bytes += size
            limit = self._retention
            is_full = self._entries * 16 > limit.max_entries or self._bytes * 16 > limit.max_bytes
        if is_full:
            self._clean_up()
        else:
            self._clean_up_in(ttl)

    def _clean_up(self) -> None:
        with self._lock:
            self._entries = self._bytes = 0
        stays = self._sweep()
        if stays is not None:
            self._clean_up_in(stays)

    def _clean_up_in(self, seconds: float) -> None:
        """Cleans up after `seconds`, unless an earlier cleanup is scheduled."""
        now = self._clock.monotonic()
        at = now + max(seconds, CLEANUP_SECONDS)
        with self._lock:
            # If the scheduled time has passed, its event loop has ended.
            if now <= self._cleans_up_at <= at:
                return
            self._cleans_up_at = at
        asyncio.get_running_loop().call_later(at - now, self._clean_up)

    def _sweep(self) -> float | None:
        """Removes expired and surplus files. Returns the seconds until the next one expires, None
        if there is none."""
        self._known = known = dict(self._found())
        now = self._clock.monotonic() * _NANOSECONDS
        by_due = sorted(known.items(), key=_by_due)
        fresh = [item for item in by_due if item[1][0] > now]
        for name, (due, _) in (*by_due[: len(by_due) - len(fresh)], *self._evicted(fresh)):
            _remove(self._directory / name, due)
            # A file that is still there is in use or was rewritten: it is examined again.
            del known[name]
        dues = [due for due, _ in known.values()]
        return (min(dues) - now) / _NANOSECONDS if dues else None

    def _evicted(self, fresh: Iterable[_Known]) -> Iterator[_Known]:
        """Yields the entries to evict if the store is full. Each time, the owner with the largest
        share loses the entry that expires first, so no owner evicts entries of others."""
        limit = self._retention
        of: dict[str, deque[_Known]] = {}
        sizes: Counter[str] = Counter()
        for item in fresh:
            of.setdefault(owner_of(item[0]), deque()).append(item)
            sizes[owner_of(item[0])] += item[1][1]

        def part(owner: str) -> float:
            return max(len(of[owner]) / limit.max_entries, sizes[owner] / limit.max_bytes)

        entries = sum(map(len, of.values()))
        while entries > limit.max_entries or sizes.total() > limit.max_bytes:
            largest = max(of, key=part)
            item = of[largest].popleft()
            sizes[largest] -= item[1][1]
            entries -= 1
            yield item

    def _forget_earlier_boots(self) -> None:
        """Removes files with a time in the future: they are from before a restart of the machine,
        which has reset the clock. They cannot be read, and would be kept for longest."""
        now = self._clock.monotonic()
        for name, (due, _) in list(self._found()):
            stored_at = _stored_at(self._directory / name)
            if stored_at is not None and stored_at > now:
                _remove(self._directory / name, due)

    def _found(self) -> Iterator[_Known]:
        """Yields the name of each file with its expiry and size. Known files are not examined
        again, because that takes milliseconds for a thousand files."""
        known = self._known
        try:
            with os.scandir(self._directory) as found:
                for entry in found:
                    facts = known.get(entry.name)
                    if facts is None:
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        facts = _due(status), status.st_size
                    yield entry.name, facts
        except OSError:
            # The directory does not exist yet, or is not readable.
            return


class FileLease:
    """`core.caching.ports.Lease`: a locked file."""

    def __init__(self, cache: FileCache, key: str, path: Path, descriptor: int) -> None:
        self._cache = cache
        self._key = key
        self._path = path
        self._descriptor = descriptor

    async def publish(self, answer: CachedAnswer, ttl: float) -> None:
        """See `Lease.publish`."""
        try:
            self._cache.write(self._key, self._descriptor, answer, ttl)
        except ValueError:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._cache.pause(error)
        finally:
            os.close(self._descriptor)

    async def release(self) -> None:
        """See `Lease.release`."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._cache.pause(error)
        finally:
            os.close(self._descriptor)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        private_directory(path.parent)
        return os.open(path, flags, 0o600)


def _stored_at(path: Path) -> float | None:
    """Returns the time in the file of an answer; None for other files."""
    try:
        with path.open("rb") as file:
            head = _STORED_AT.match(file.read(100))
    except OSError:
        return None
    return float(head[1]) if head else None


def _by_due(known: _Known) -> int:
    return known[1][0]


def _due(status: os.stat_result) -> int:
    """Returns when a file may be removed, in nanoseconds: 0 if it holds no answer."""
    return status.st_mtime_ns if status.st_mtime_ns < _UNFINISHED_NS else 0


def _remove(path: Path, due: int) -> None:
    """Removes a file, unless it is locked or was written since it had the expiry `due`."""
    with suppress(OSError):
        descriptor = open_if_abandoned(path)
        if descriptor is None:
            return
        try:
            if _due(os.fstat(descriptor)) == due:
                path.unlink()
        finally:
            os.close(descriptor)
