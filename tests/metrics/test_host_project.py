"""A project that has metrics of its own: neither disturbs the other."""

import subprocess
import sys
from pathlib import Path

import pytest

from project.processes import ROOT
from tests.servers import environment

SCRIPT = """
import os, sys
from pathlib import Path
from prometheus_client import Counter, REGISTRY, generate_latest
theirs = Counter("llm_routing_requests", "A name that is ours too.", ["x"])
theirs.labels("1").inc()
import django
django.setup()
from llm_routing.metrics import Exposition, Metrics
from tests.metrics.test_processes import end
metrics = Metrics(Path(sys.argv[1]))
end(metrics)
ours = Exposition(metrics).text("")[0].decode()
assert 'outcome="success",tier="standard",use_case="debugging"} 1.0' in ours, ours
assert 'x="1"' not in ours
assert "llm_routing_requests_total 1.0" not in ours
assert "use_case" not in generate_latest(REGISTRY).decode()
print(len(os.listdir(sys.argv[2])))
"""


@pytest.mark.parametrize("is_multiprocess", [False, True])
def test_neither_sees_the_other(tmp_path: Path, is_multiprocess: bool) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    more = {"PROMETHEUS_MULTIPROC_DIR": str(theirs)} if is_multiprocess else {}
    outcome = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "ours"), str(theirs)],
        cwd=ROOT,
        env=environment(tmp_path, "sqlite://:memory:", None, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert int(outcome.stdout) == is_multiprocess


def test_both_fit_into_one_registry(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
import django
django.setup()
from prometheus_client import REGISTRY, generate_latest
from llm_routing.metrics import Exposition, Metrics
REGISTRY.register(Exposition(Metrics(Path(sys.argv[1]))))
text = generate_latest(REGISTRY).decode()
assert "llm_routing_processes 1.0" in text and "python_info" in text
"""
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "ours")],
        cwd=ROOT,
        env=environment(tmp_path, "sqlite://:memory:", None),
        check=True,
        timeout=60,
    )
