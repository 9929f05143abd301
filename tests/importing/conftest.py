"""Files of other routers, read and taken over."""

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from llm_routing.importing.plan import Plan, Remark
from llm_routing.importing.report import MigrationReport
from llm_routing.importing.source import read
from llm_routing.importing.write import migrate
from llm_routing.models import UseCaseRoute
from tests.router.conftest import clean_process, connections_given_back

__all__ = ["clean_process", "connections_given_back"]

SAMPLES = Path(__file__).parent / "samples"
KEYS = {
    "OPENAI_API_KEY": "k",
    "ANTHROPIC_API_KEY": "k",
    "GEMINI_API_KEY": "k",
    "OPENROUTER_API_KEY": "k",
    "OPENAI_API_KEY_HELPDESK": "k",
}
SECRETS = (
    "sk-live-0123456789abcdefSUPPORT",
    "gsk_0123456789abcdefghijGROQ",
    "sk-1234",
    "s3cr3t",
    "hunter2",
    "lf-do-not-print-this",
)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of some kind."""

    def write(text: str, name: str = "router.py") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def plan_of(path: Path, through: str = "", environ: Mapping[str, str] = KEYS) -> Plan:
    return read(path, environ=environ, through=through)


def take_over(path: Path, *, environ: Mapping[str, str] = KEYS, **options: Any) -> MigrationReport:
    plan = read(path, environ=environ, through=options.pop("through", ""))
    return migrate(plan, environ=environ, today=date(2026, 11, 23), **options)


def targets_of(name: str, tier: str = "standard") -> list[tuple[str, int, int]]:
    """The targets of a route: address, position and weight."""
    route = UseCaseRoute.objects.get(use_case=name, tier=tier)
    rows = route.targets.select_related("model__provider").order_by("position", "id")
    return [(row.model.address, row.position, row.weight) for row in rows]


def said(remarks: tuple[Remark, ...]) -> dict[str, str]:
    """Remarks by their place."""
    return {remark.where: remark.text for remark in remarks}
