"""The numbers of all processes that share a directory, added up.

Counters and histograms of a process stay when it ends, its gauges go. What the dead have left is
folded into one file; when the last process has ended, the next one starts from zero.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from struct import iter_unpack

from llm_routing.system.locked_files import is_owner_alive, lock_file
from llm_routing.system.private_files import private_directory, write_private

from .cells import CELL_BYTES, NAMES, VALUES, Cells, Series
from .families import FAMILIES, Kind

logger = logging.getLogger(__name__)

DEPARTED = "departed.json"
LOCK = "lock"
MAX_READS = 10
MAX_DEPARTED = 50_000
"""Series of the dead; past it those counted least are forgotten."""

Numbers = dict[Series, list[float]]


@dataclass(slots=True)
class _Departed:
    """The sum of what dead processes counted, and which files are in it."""

    folded: list[str] = field(default_factory=list)
    numbers: Numbers = field(default_factory=dict)


class SharedNumbers:
    """A directory of cells, seen by the process that owns `cells`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def start(self) -> Cells:
        """New cells in the directory, which is emptied where no process lives in it."""
        with suppress(OSError):
            private_directory(self._directory)
            with lock_file(self._directory / LOCK) as is_locked:
                if is_locked:
                    self._empty()
                return Cells(self._directory)
        return Cells(self._directory)

    def total(self, own: Cells) -> Numbers:
        """The sum over all processes. Blocks for nobody: where the dead are folded meanwhile, it
        looks again."""
        numbers: Numbers = {}
        _add(numbers, own.numbers())
        if not own.is_shared:
            return numbers
        for _ in range(MAX_READS):
            before = self._departed_bytes()
            others: Numbers = {}
            departed = _departed(before)
            _add(others, departed.numbers)
            for path in self._files():
                if path.stem != own.id and path.stem not in departed.folded:
                    with suppress(FileNotFoundError):
                        _add(others, _read(path))
            if self._departed_bytes() == before:
                break
        _add(numbers, others)
        return numbers

    def fold(self, own: Cells) -> None:
        """Adds up what the dead have left and removes their files. Raises `OSError`."""
        if not own.is_shared:
            return
        with lock_file(self._directory / LOCK) as is_locked:
            if not is_locked:
                return  # another process is folding or starting
            departed = _departed(self._departed_bytes())
            # Those folded before us are in the sum already, if whoever did it died at it.
            self._remove(departed.folded)
            others = (path for path in self._files() if path.stem != own.id)
            dead = [path for path in others if not is_owner_alive(path)]
            if not dead:
                return
            for path in dead:
                _add(departed.numbers, _read(path))
            departed.folded = [path.stem for path in dead]
            self._write(departed)
            self._remove(departed.folded)

    def _empty(self) -> None:
        files = list(self._files())
        if not any(map(is_owner_alive, files)):
            (self._directory / DEPARTED).unlink(missing_ok=True)
            self._remove(path.stem for path in files)

    def _remove(self, ids: Iterable[str]) -> None:
        for name in ids:
            for suffix in (NAMES, VALUES):
                (self._directory / (name + suffix)).unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        return self._directory.glob(f"*{NAMES}")

    def _departed_bytes(self) -> bytes:
        try:
            return (self._directory / DEPARTED).read_bytes()
        except FileNotFoundError:
            return b""

    def _write(self, departed: _Departed) -> None:
        series = sorted(departed.numbers.items(), key=lambda item: -max(item[1]))[:MAX_DEPARTED]
        content = json.dumps(
            {
                "folded": departed.folded,
                "series": [[name, labels, values] for (name, labels), values in series],
            }
        )
        write_private(self._directory / DEPARTED, content.encode())


def _read(path: Path) -> Numbers:
    """The numbers of another process. Raises `FileNotFoundError` where they are folded by now."""
    is_dead = not is_owner_alive(path)
    names = path.read_bytes()
    cells = path.with_suffix(VALUES).read_bytes()
    values = [
        value for (value,) in iter_unpack("=d", cells[: len(cells) // CELL_BYTES * CELL_BYTES])
    ]
    found: Numbers = {}
    for first, size, name, labels in _lines(names):
        if is_dead and name in FAMILIES and FAMILIES[name].kind is Kind.GAUGE:
            continue
        found[name, tuple(labels)] = values[first : first + size]
    return found


def _lines(names: bytes) -> Iterator[tuple[int, int, str, list[str]]]:
    whole = names[: names.rfind(b"\n") + 1].splitlines()
    try:
        # All at once is several times faster than one by one.
        yield from json.loads(b"[" + b",".join(whole) + b"]")
    except ValueError:
        # One of them was cut off on a full disk.
        for line in whole:
            with suppress(ValueError):
                yield tuple(json.loads(line))


def _departed(content: bytes) -> _Departed:
    if not content:
        return _Departed()
    try:
        given = json.loads(content)
        numbers = {(name, tuple(labels)): values for name, labels, values in given["series"]}
        return _Departed(given["folded"], numbers)
    except (ValueError, TypeError, KeyError):
        logger.error("The metrics of processes that have ended cannot be read.")
        return _Departed()


def _add(numbers: Numbers, more: Numbers) -> None:
    """Adds up, leaving out what another release counts in another way."""
    for series, values in more.items():
        family = FAMILIES.get(series[0])
        if family is None or family.size != len(values) or len(family.labels) != len(series[1]):
            continue
        present: Sequence[float] = numbers.get(series, [0.0] * family.size)
        numbers[series] = [one + another for one, another in zip(present, values, strict=True)]
