"""What the workers of one machine have in common without Redis: a directory of locks and answers.

Answers stay there for seconds, as long as equal requests that came together may still look for
them; each worker goes on from its own memory.
"""

import asyncio
import fcntl
import logging
import os
from collections import deque
from pathlib import Path
from threading import Lock

from llm_routing.core.cache import CachedAnswer, answer_from_json, answer_to_json
from llm_routing.core.codec import decode, encode
from llm_routing.core.ports import Cipher, Clock, Found, NoLease

logger = logging.getLogger(__name__)

SCHEMA = 1
LINGER_SECONDS = 10.0
MAX_LINGERING = 1000
PAUSE_SECONDS = 60.0


class FileCache:
    """`core.ports.SharedCache` over `directory`: a file for each key, locked by who asks upstream.

    The kernel ends the lock with its holder, however that dies. What a file holds is encrypted;
    its moment is that of the monotonic clock, which the processes of a machine have in common.
    """

    def __init__(self, directory: Path, *, cipher: Cipher, clock: Clock) -> None:
        self._directory = directory
        self._cipher = cipher
        self._clock = clock
        self._paused_until = clock.monotonic()
        self._lingering: deque[tuple[float, Path]] = deque()
        self._lock = Lock()
        for path in directory.glob("*"):
            self._remove(path, unless_younger_than=LINGER_SECONDS)

    async def claim(self, key: str, max_age: float) -> "Found | FileLease | NoLease":
        """See `SharedCache.claim`. A few system calls on a small file, without a thread."""
        if self._clock.monotonic() < self._paused_until:
            return NoLease.UNAVAILABLE
        try:
            return self._claim(key, max_age)
        except OSError as error:
            self.pause(error)
            return NoLease.UNAVAILABLE

    async def put(self, key: str, answer: CachedAnswer, ttl: float) -> None:
        """See `SharedCache.put`. Where somebody holds the lease, his answer comes instead."""
        claimed = await self.claim(key, 0)
        if isinstance(claimed, FileLease):
            await claimed.publish(answer, ttl)

    async def aclose(self) -> None:
        """Nothing is open. What this process has left is for the others, who may be late; the
        next one to start removes it."""

    def write(self, key: str, descriptor: int, answer: CachedAnswer, ttl: float) -> None:
        """Puts an answer into a locked file. Raises `OSError`, and `ValueError` for one that
        cannot be written."""
        sealed = self._cipher.encrypt(answer_to_json(key, answer))
        stored_at = self._clock.monotonic()
        entry = {"schema": SCHEMA, "stored_at": stored_at, "ttl": ttl, "answer": sealed}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, encode(entry), 0)
        with self._lock:
            self._lingering.append((stored_at + LINGER_SECONDS, self._directory / key))
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._tidy)
        if len(self._lingering) > MAX_LINGERING:
            self._tidy()

    def pause(self, error: OSError) -> None:
        """Leaves the directory alone for a while: the disk is full, or not ours to write."""
        self._paused_until = self._clock.monotonic() + PAUSE_SECONDS
        logger.warning("Workers do not share answers for %g s: %s", PAUSE_SECONDS, error.strerror)

    def _claim(self, key: str, max_age: float) -> "Found | FileLease | NoLease":
        path = self._directory / key
        while True:
            descriptor = _open(path)
            is_locked = _lock(descriptor)
            found = self._read(key, descriptor, max_age)
            if found is not None or not is_locked:
                os.close(descriptor)
                return found or NoLease.BUSY
            if os.fstat(descriptor).st_nlink:
                return FileLease(self, key, path, descriptor)
            # Removed between our open and our lock: nobody else will find it.
            os.close(descriptor)

    def _read(self, key: str, descriptor: int, max_age: float) -> Found | None:
        """What the file holds, if it can be read and is young enough."""
        try:
            entry = decode(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
            age = self._clock.monotonic() - entry["stored_at"]
            ttl = entry["ttl"] - age
            if entry["schema"] != SCHEMA or not 0 <= age < max_age or ttl <= 0:
                return None
            answer = answer_from_json(key, self._cipher.decrypt(entry["answer"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return Found(answer, age, ttl)

    def _tidy(self) -> None:
        now = self._clock.monotonic()
        with self._lock:
            due = []
            while self._lingering and (
                self._lingering[0][0] <= now or len(self._lingering) > MAX_LINGERING
            ):
                due.append(self._lingering.popleft()[1])
        for path in due:
            self._remove(path)

    def _remove(self, path: Path, unless_younger_than: float = 0.0) -> None:
        """Removes a file that nobody has locked."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if _lock(descriptor) and not self._read(path.name, descriptor, unless_younger_than):
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


class FileLease:
    """`core.ports.Lease`: a locked file."""

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
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def _lock(descriptor: int) -> bool:
    """Locks the file, unless somebody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
