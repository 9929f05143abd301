"""Another program truncates a file that a process is writing to.

The ledger goes on. Metrics are counted in mapped memory: their process ends with SIGBUS unless the
background thread restores the file first (docs/outages.md).
"""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_routing.ledger.lines import opened_line, read
from llm_routing.ledger.segments import Segment
from llm_routing.metrics.cells import Cells
from project.processes import ROOT
from tests.ledger.attempts import opened

COUNT_IN_TRUNCATED_FILE = """
import os, sys
from pathlib import Path
import django
django.setup()
from llm_routing.system.crashes import enable_crash_tracebacks
from llm_routing.metrics.cells import Cells
enable_crash_tracebacks()
directory = Path(sys.argv[1])
cells = Cells(directory)
(values,) = directory.glob("*.values")
os.truncate(values, 0)
cells.values[0] += 1
"""


def test_a_truncated_segment_loses_only_the_missing_records(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segment = Segment.create(tmp_path, 8192)
    kept = opened()
    segment.append(opened_line(opened()))
    os.truncate(segment.path, 0)
    segment.append(opened_line(kept))
    segment.restore()
    assert "truncated by another program" in caplog.text
    assert segment.path.stat().st_size == 8192
    assert list(map(read, segment.unshipped())) == [kept]
    segment.close(remove=True)


def test_a_process_that_crashes_on_a_truncated_file_prints_a_traceback(
    tmp_path: Path,
) -> None:
    process = subprocess.run(
        [sys.executable, "-c", COUNT_IN_TRUNCATED_FILE, str(tmp_path)],
        cwd=ROOT,
        check=False,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == -7
    assert "Bus error" in process.stderr
    assert "<string>" in process.stderr
    # The next process starts in the same directory.
    Cells(tmp_path).close()


def test_cells_are_restored_before_the_next_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = Cells(tmp_path)
    (values,) = tmp_path.glob("*.values")
    os.truncate(values, 0)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            cells.restore()
    assert caplog.text.count("was truncated by another program") == 1
    cells.values[0] += 1
    assert cells.values[0] == 1
    cells.close()
