"""Huge pages: the heap moves into them, and takes no more memory than before."""

import subprocess
import sys
from pathlib import Path

import pytest

from llm_routing.system import huge_pages
from llm_routing.system.huge_pages import use_huge_pages

MEGABYTE = 1024 * 1024

ALLOCATE_AND_MOVE = """
import threading
from pathlib import Path
from llm_routing.system.huge_pages import use_huge_pages

def numbers():
    text = Path("/proc/self/smaps_rollup").read_text()
    lines = dict(line.split(":") for line in text.splitlines()[1:])
    return [int(lines[name].split()[0]) for name in ("Rss", "AnonHugePages")]

stopping = threading.Event()
threads = [threading.Thread(target=stopping.wait) for _ in range(20)]
for thread in threads:
    thread.start()
objects = [{"number": str(number)} for number in range(200_000)]
before = numbers()
moved = use_huge_pages()
print(moved, *before, *numbers())
assert [row["number"] for row in objects] == [str(number) for number in range(200_000)]
stopping.set()
"""


def test_the_heap_moves_into_huge_pages_and_does_not_grow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATE_AND_MOVE], capture_output=True, text=True, check=True
    )
    moved, resident, huge, resident_after, huge_after = map(int, done.stdout.split())
    if not moved:
        pytest.skip("This kernel moves no memory into huge pages.")
    assert moved > 20 * MEGABYTE
    assert (huge_after - huge) * 1024 == pytest.approx(moved, rel=0.1)
    assert resident_after < 1.1 * resident, "the stacks of threads stay as they are"


@pytest.mark.parametrize("text", ["", "many", None])
def test_without_support_of_the_system_nothing_happens(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hpage_pmd_size"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(huge_pages, "PAGE_SIZE", path)
    assert use_huge_pages() == 0
