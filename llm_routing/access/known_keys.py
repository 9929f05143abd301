"""A file of the usable API keys that this machine has seen, for a start without the database.

It is sealed, is in the state directory, and holds digests, never a key. `api_keys` decides when a
key of it is accepted.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from llm_routing.crypto.at_rest import Purpose, encryption_keys
from llm_routing.crypto.in_transit import Sealing
from llm_routing.models import ApiKey
from llm_routing.system.locked_files import lock_file
from llm_routing.system.private_files import private_directory, write_private

from .api_keys import MAX_KNOWN, ApiKeyCache, KnownKey

logger = logging.getLogger(__name__)

SAVE_SECONDS = 5.0
BATCH = 500

_KEYS: TypeAdapter[list[KnownKey]] = TypeAdapter(list[KnownKey])


class KnownKeysFile:
    """The file of one machine, which its processes write in turn.

    Each save checks all keys of the file against the database again, so a revoked key disappears
    from the file and from the memory of this process.
    """

    def __init__(self, path: Path, cache: ApiKeyCache) -> None:
        self._path = path
        self._cache = cache
        self._is_loaded = False
        self._is_outdated = True
        self._saved_version = cache.version
        self._next_save = time.monotonic()

    def load(self) -> None:
        """Adds the keys of the file to the cache, once."""
        if not self._is_loaded:
            self._is_loaded = True
            self._cache.remember(self._read().values())

    def outdate(self) -> None:
        """Has the next save check the file, because keys have changed."""
        self._is_outdated = True

    def save(self, *, at_once: bool = False) -> None:
        """Brings the file up to date if keys have changed or were added; at most every
        `SAVE_SECONDS` for added ones, unless `at_once`. Raises `django.db.Error`."""
        version, now = self._cache.version, time.monotonic()
        is_due = version != self._saved_version and (at_once or now >= self._next_save)
        if not is_due and not self._is_outdated:
            return
        with ExitStack() as stack:
            try:
                private_directory(self._path.parent)
                is_locked = stack.enter_context(lock_file(self._path.with_suffix(".lock")))
            except OSError as error:
                logger.warning("The known API keys cannot be kept: %s", error.strerror)
                return
            if not is_locked:
                return  # another process is writing it; the next save comes soon
            is_outdated, self._is_outdated = self._is_outdated, False
            try:
                self._write(self._usable(self._read()))
            except BaseException:
                self._is_outdated = is_outdated
                raise
        self._saved_version, self._next_save = version, now + SAVE_SECONDS

    def _usable(self, kept: Mapping[str, KnownKey]) -> Sequence[KnownKey]:
        """Returns the usable keys of the file and the cache, the most recently used last, and
        removes the others from the cache."""
        cached = self._cache.digests()
        digests = list(dict.fromkeys((*(kept.keys() - set(cached)), *cached)))[-MAX_KNOWN:]
        keys: dict[str, KnownKey] = {}
        for start in range(0, len(digests), BATCH):
            rows = ApiKey.objects.usable().filter(digest__in=digests[start : start + BATCH])
            keys.update((row.digest, KnownKey.of(row)) for row in rows)
        self._cache.forget(digest for digest in cached if digest not in keys)
        return [keys[digest] for digest in digests if digest in keys]

    def _read(self) -> Mapping[str, KnownKey]:
        try:
            keys = _KEYS.validate_json(_sealing().decrypt(self._path.read_text(), self._path.name))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("The file of known API keys cannot be read: %s", type(error).__name__)
            return {}
        return {key.digest: key for key in keys[-MAX_KNOWN:]}

    def _write(self, keys: Sequence[KnownKey]) -> None:
        text = json.dumps([asdict(key) for key in keys], default=str)
        sealed = _sealing().encrypt(text, self._path.name)
        try:
            write_private(self._path, sealed.encode())
        except OSError as error:
            # No file is better than one with a revoked key.
            self._path.unlink(missing_ok=True)
            logger.warning("The known API keys cannot be kept: %s", error.strerror)


def _sealing() -> Sealing:
    return Sealing(encryption_keys(Purpose.KNOWN_KEYS))
