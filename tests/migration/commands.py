"""Commands of a page of the documentation, run in a directory of their own."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_command(
    words: Sequence[str], directory: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; `python` is the interpreter of the tests."""
    program = sys.executable if words[0] == "python" else words[0]
    return subprocess.run(
        [program, *words[1:]],
        cwd=directory,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
