"""A ledger in a directory of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_routing.ledger.shipping import Ledger


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(directory: Path) -> Iterator[Ledger]:
    ledger = Ledger(directory)
    yield ledger
    ledger.close()
