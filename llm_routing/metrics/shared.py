"""The numbers of all processes that share a directory, summed.

Counters and histograms of a process remain when it ends; its gauges do not. The numbers of ended
processes are merged into one file. If the last process has ended, the next one starts from zero.
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

ENDED = "ended.json"
LOCK = "lock"
MAX_READS = 10
MAX_ENDED_SERIES = 50_000
"""Series of ended processes; beyond it, those with the lowest counts are dropped."""

Numbers = dict[Series, list[float]]


@dataclass(slots=True)
class _Ended:
    """The sum of the counts of ended processes, and the IDs of those whose files it includes."""

    merged: list[str] = field(default_factory=list)
    numbers: Numbers = field(default_factory=dict)


class SharedNumbers:
    """A directory of cells, as the process sees it that owns one of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def start(self) -> Cells:
        """Returns new cells in the directory, which is emptied first if no process uses it."""
        with suppress(OSError):
            private_directory(self._directory)
            with lock_file(self._directory / LOCK) as is_locked:
                if is_locked:
                    self._empty_if_unused()
                return Cells(self._directory)
        return Cells(self._directory)

    def total(self, own: Cells) -> Numbers:
        """Returns the sums over all processes. Does not lock: if ended processes are merged
        meanwhile, it reads again."""
        numbers: Numbers = {}
        _add(numbers, own.numbers())
        if not own.is_shared:
            return numbers
        for _ in range(MAX_READS):
            before = self._ended_bytes()
            others: Numbers = {}
            ended = _parse_ended(before)
            _add(others, ended.numbers)
            for path in self._files():
                if path.stem != own.id and path.stem not in ended.merged:
                    with suppress(FileNotFoundError):
                        _add(others, _read(path))
            if self._ended_bytes() == before:
                break
        _add(numbers, others)
        return numbers

    def merge_ended(self, own: Cells) -> None:
        """Sums up the files of ended processes and removes them. Raises `OSError`."""
        if not own.is_shared:
            return
        with lock_file(self._directory / LOCK) as is_locked:
            if not is_locked:
                return  # another process is merging or starting
            ended = _parse_ended(self._ended_bytes())
            # They are still there if the process that merged them ended before it removed them.
            self._remove(ended.merged)
            others = (path for path in self._files() if path.stem != own.id)
            abandoned = [path for path in others if not is_owner_alive(path)]
            if not abandoned:
                return
            for path in abandoned:
                _add(ended.numbers, _read(path))
            ended.merged = [path.stem for path in abandoned]
            self._write(ended)
            self._remove(ended.merged)

    def _empty_if_unused(self) -> None:
        files = list(self._files())
        if not any(map(is_owner_alive, files)):
            (self._directory / ENDED).unlink(missing_ok=True)
            self._remove(path.stem for path in files)

    def _remove(self, ids: Iterable[str]) -> None:
        for name in ids:
            for suffix in (NAMES, VALUES):
                (self._directory / (name + suffix)).unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        return self._directory.glob(f"*{NAMES}")

    def _ended_bytes(self) -> bytes:
        try:
            return (self._directory / ENDED).read_bytes()
        except FileNotFoundError:
            return b""

    def _write(self, ended: _Ended) -> None:
        series = sorted(ended.numbers.items(), key=lambda item: -max(item[1]))
        content = json.dumps(
            {
                "merged": ended.merged,
                "series": [
                    [name, labels, values] for (name, labels), values in series[:MAX_ENDED_SERIES]
                ],
            }
        )
        write_private(self._directory / ENDED, content.encode())


def _read(path: Path) -> Numbers:
    """Returns the numbers of another process; without gauges if it has ended. Raises
    `FileNotFoundError` if they were merged meanwhile."""
    has_ended = not is_owner_alive(path)
    names = path.read_bytes()
    cells = path.with_suffix(VALUES).read_bytes()
    values = [
        value for (value,) in iter_unpack("=d", cells[: len(cells) // CELL_BYTES * CELL_BYTES])
    ]
    found: Numbers = {}
    for first, size, name, labels in _lines(names):
        if has_ended and name in FAMILIES and FAMILIES[name].kind is Kind.GAUGE:
            continue
        found[name, tuple(labels)] = values[first : first + size]
    return found


def _lines(names: bytes) -> Iterator[tuple[int, int, str, list[str]]]:
    whole = names[: names.rfind(b"\n") + 1].splitlines()
    try:
        # Parsing all at once is several times faster than line by line.
        yield from json.loads(b"[" + b",".join(whole) + b"]")
    except ValueError:
        # A line was cut off on a full disk.
        for line in whole:
            with suppress(ValueError):
                yield tuple(json.loads(line))


def _parse_ended(content: bytes) -> _Ended:
    if not content:
        return _Ended()
    try:
        value = json.loads(content)
        numbers = {(name, tuple(labels)): values for name, labels, values in value["series"]}
        return _Ended(value["merged"], numbers)
    except (ValueError, TypeError, KeyError):
        logger.error("The metrics of processes that have ended cannot be read.")
        return _Ended()


def _add(numbers: Numbers, more: Numbers) -> None:
    """Adds `more` to `numbers`, without series that another release counts differently."""
    for series, values in more.items():
        family = FAMILIES.get(series[0])
        if family is None or family.size != len(values) or len(family.labels) != len(series[1]):
            continue
        present: Sequence[float] = numbers.get(series, [0.0] * family.size)
        numbers[series] = [one + another for one, another in zip(present, values, strict=True)]
