"""The numbers of one process, in memory that is a file: what is counted outlives even SIGKILL.

Two files: `ID.names` says which cells are whose, a line for each series, and is locked as long as
its process lives; `ID.values` holds the cells, 64-bit floats in the machine's byte order.
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
    """This process's cells. Without a directory that can be written they are in memory alone."""

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
                logger.error("Metrics are of this process alone: %s", error.strerror)
                self.close()
        anonymous = memory or mmap.mmap(-1, MAX_CELLS * CELL_BYTES)
        self.values: memoryview[float] = memoryview(anonymous).cast("d")

    @property
    def is_shared(self) -> bool:
        """Whether other processes can read them."""
        return self._names is not None

    def claim(self, family: Family, *labels: str) -> int:
        """The first cell of a series, which is new or known."""
        series = (family.name, labels)
        if series in self.known:
            return self.known[series][0]
        first, size = self._next, family.size
        assert first + size <= MAX_CELLS, "the limits of names allow no more"
        self._next += size
        self.known[series] = (first, size)
        if self._names is not None:
            line = json.dumps([first, size, family.name, labels]).encode() + b"\n"
            try:
                os.write(self._names, line)
            except OSError as error:
                logger.error("A metric is not shown by other processes: %s", error.strerror)
        return first

    def numbers(self) -> dict[Series, list[float]]:
        """What they hold now."""
        return {
            series: list(self.values[first : first + size])
            for series, (first, size) in self.known.items()
        }

    def close(self) -> None:
        """Ends the lock: from here on these are the numbers of a process that has ended."""
        descriptors = self._names, self._file
        self._names = self._file = None
        for descriptor in descriptors:
            if descriptor is not None:
                os.close(descriptor)

    def restore(self) -> None:
        """Gives the file its size back where another program has truncated it. Raises
        `OSError`."""
        if self._file is not None and disk_space.restore(self._file, MAX_CELLS * CELL_BYTES):
            logger.error(
                "%s%s was truncated by another program: this process's metrics begin at zero.",
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
