"""Whether there are other processes beside this one, and a shared cache that is for them alone.

Who is there holds a locked file in a directory; the kernel ends the lock with its holder.
"""

import fcntl
import os
import weakref
from mmap import mmap
from os import urandom
from pathlib import Path

from llm_routing.core.caching.rules import CachedAnswer
from llm_routing.core.ids import new_id
from llm_routing.core.ports import Clock, Found, Lease, NoLease, SharedCache
from llm_routing.system.private_files import private_directory

LOOK_SECONDS = 10.0
"""A process that was killed is noticed within these."""
_SIGN_BYTES = 16


class Neighbours:
    """The processes that use `directory`. To look costs a few bytes of memory that they share, as
    long as none comes or goes."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._is_alone = self._is_here = False
        self._seen = b""
        self._look_at = clock.monotonic()
        self._own = directory / new_id()
        self._leave: weakref.finalize[[Path, int, mmap, int], Neighbours] | None = None
        try:
            private_directory(directory)
            self._sign = _sign(directory.with_name(f"{directory.name}.sign"))
            descriptor = _locked(self._own)
        except OSError:
            # Nobody would know of us, so we cannot know that nobody waits.
            return
        self._sign[:] = urandom(_SIGN_BYTES)
        self._leave = weakref.finalize(self, _leave, self._own, descriptor, self._sign, os.getpid())
        self._is_here = True

    def are_there(self) -> bool:
        """Whether there may be other processes."""
        if not self._is_here:
            return True
        # Before the look, so that who comes during it is seen the next time.
        sign, now = self._sign[:], self._clock.monotonic()
        if sign != self._seen or now >= self._look_at:
            try:
                self._is_alone = not any(map(_is_held, self._others()))
            except OSError:
                return True
            self._seen, self._look_at = sign, now + LOOK_SECONDS
        return not self._is_alone

    def leave(self) -> None:
        """This process is not there any more."""
        self._is_here = False
        if self._leave is not None:
            self._leave()

    def _others(self) -> list[Path]:
        return [path for path in self._directory.iterdir() if path != self._own]


class ForNeighbours:
    """`core.ports.SharedCache` over another one, which is left alone where nobody else is there:
    each process goes on from its own memory."""

    def __init__(self, shared: SharedCache, neighbours: Neighbours, clock: Clock) -> None:
        self._shared = shared
        self._neighbours = neighbours
        self._clock = clock
        self._waits_until = clock.monotonic()

    def is_alone(self) -> bool:
        """See `SharedCache.is_alone`."""
        # Who was waited for may have left his answer and gone.
        return not self._neighbours.are_there() and self._clock.monotonic() >= self._waits_until

    async def claim(self, key: str, max_age: float) -> Found | Lease | NoLease:
        """See `SharedCache.claim`."""
        if self.is_alone():
            return NoLease.UNAVAILABLE
        began = self._clock.monotonic()
        claimed = await self._shared.claim(key, max_age)
        if claimed is NoLease.BUSY:
            self._waits_until = began + LOOK_SECONDS
        return claimed

    async def put(self, key: str, answer: CachedAnswer, ttl: float) -> None:
        """See `SharedCache.put`."""
        if self._neighbours.are_there():
            await self._shared.put(key, answer, ttl)

    async def aclose(self) -> None:
        """See `SharedCache.aclose`."""
        self._neighbours.leave()
        await self._shared.aclose()


def _locked(path: Path) -> int:
    """A new file, locked before it has the name that others look for."""
    hidden = path.parent.with_name(f"{path.parent.name}.{path.name}")
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        hidden.rename(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_held(path: Path) -> bool:
    """Whether somebody holds the file; one that a dead process left is removed."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _sign(path: Path) -> mmap:
    """Memory that the processes have in common: whoever comes or goes writes something new."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # A hole in the file would be met, on a full disk, as SIGBUS.
        os.posix_fallocate(descriptor, 0, _SIGN_BYTES)
        return mmap(descriptor, _SIGN_BYTES)
    finally:
        os.close(descriptor)


def _leave(path: Path, descriptor: int, sign: mmap, pid: int) -> None:
    # What a forked child inherits is its parent's.
    if os.getpid() == pid:
        path.unlink(missing_ok=True)
        sign[:] = urandom(_SIGN_BYTES)
    os.close(descriptor)
