"""The numbers of one process, in a memory-mapped file: counts survive even SIGKILL.

There are two files. `ID.names` has a line for each series, with its cells, and is locked while its
process lives. `ID.values` has the cells: 64-bit floats in the machine's byte order.
"""

import json
import logging
import mmap
import os
from pathlib import Path
from uuid import uuid4

from llm_routing.system import disk_space
from llm_routing.system.locked_files import create_locked
from llm_routing.system.private_files import private_directory

from .families import Family

logger = logging.getLogger(__name__)

MAX_CELLS = 32_768
CELL_BYTES = 8
NAMES, VALUES = ".names", ".values"

Series = tuple[str, tuple[str, ...]]
"""A family's name and the values of its labels."""


class Cells:
    """This process's cells; only in memory if there is no writable directory."""

    def __init__(self, directory: Path | None) -> None:
        self.id = uuid4().hex
        self.known: dict[Series, tuple[int, int]] = {}
        self._next = 0
        self._names: int | None = None
        self._file: int | None = None
        memory: mmap.mmap | None = None
        if directory is not None:
            try:
                memory = self._create(directory)
            except OSError as error:
                logger.error("Metrics are not shared with other processes: %s", error.strerror)
                self.close()
        mapped = memory or mmap.mmap(-1, MAX_CELLS * CELL_BYTES)
        self.values: memoryview[float] = memoryview(mapped).cast("d")

    @property
    def is_shared(self) -> bool:
        """Whether other processes can read them."""
        return self._names is not None

    def claim(self, family: Family, *labels: str) -> int:
        """Returns the first cell of a series. Reserves its cells if the series is new."""
        series = (family.name, labels)
        if series in self.known:
            return self.known[series][0]
        first, size = self._next, family.size
        assert first + size <= MAX_CELLS, "the limits on names keep series below this"
        self._next += size
        self.known[series] = (first, size)
        if self._names is not None:
            line = json.dumps([first, size, family.name, labels]).encode() + b"\n"
            try:
                os.write(self._names, line)
            except OSError as error:
                logger.error("Other processes cannot show a metric: %s", error.strerror)
        return first

    def numbers(self) -> dict[Series, list[float]]:
        """Returns the current numbers."""
        return {
            series: list(self.values[first : first + size])
            for series, (first, size) in self.known.items()
        }

    def close(self) -> None:
        """Releases the lock: other processes then treat this one as ended."""
        descriptors = self._names, self._file
        self._names = self._file = None
        for descriptor in descriptors:
            if descriptor is not None:
                os.close(descriptor)

    def restore(self) -> None:
        """Restores the file if another program has truncated it, and logs it. Raises `OSError`."""
        if self._file is not None and disk_space.restore(self._file, MAX_CELLS * CELL_BYTES):
            logger.error(
                "%s%s was truncated by another program: this process's metrics start from zero.",
                self.id,
                VALUES,
            )

    def _create(self, directory: Path) -> mmap.mmap:
        private_directory(directory)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        values = self._file = os.open(directory / (self.id + VALUES), flags, 0o600)
        disk_space.reserve(values, MAX_CELLS * CELL_BYTES)
        memory = mmap.mmap(values, MAX_CELLS * CELL_BYTES)
        self._names = create_locked(directory / (self.id + NAMES), flags=os.O_APPEND)
        return memory
