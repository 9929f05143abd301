"""The workflows of GitHub Actions: valid, pinned, and with no permission they do not use."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = ROOT / ".github" / "workflows" / "release.yml"


def jobs_of(workflow: Path) -> dict[str, Any]:
    """The jobs of a workflow, by name."""
    jobs: dict[str, Any] = yaml.safe_load(workflow.read_text())["jobs"]
    return jobs


def validate(schema: str, *files: Path) -> str:
    """Checks files against a schema of check-jsonschema; returns its complaints."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    found = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    return "" if found.returncode == 0 else found.stdout


def test_the_workflows_are_valid(tmp_path: Path) -> None:
    assert len(WORKFLOWS) == 2
    assert validate("vendor.github-workflows", *WORKFLOWS) == ""
    assert validate("custom.github-workflows-require-timeout", *WORKFLOWS) == ""
    assert validate("vendor.dependabot", ROOT / ".github" / "dependabot.yml") == ""
    wrong = tmp_path / "release.yml"
    wrong.write_text(RELEASE.read_text().replace("runs-on:", "runs-at:"))
    assert "runs-at" in validate("vendor.github-workflows", wrong)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_to_a_commit_and_names_its_version(workflow: Path) -> None:
    used = re.findall(r"uses: (.+)", workflow.read_text())
    assert used
    for reference in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", reference), reference


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_has_only_the_permissions_that_it_names(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {}
    assert all(job["permissions"] for job in jobs_of(workflow).values())


def test_the_code_of_the_project_runs_without_the_right_to_publish() -> None:
    jobs = jobs_of(RELEASE)
    builders = {name for name, job in jobs.items() if "checkout" in str(job["steps"])}
    assert builders == {"build"}
    assert jobs["build"]["permissions"] == {"contents": "read"}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert all("run" not in step for step in jobs["publish"]["steps"])
    assert "secrets." not in RELEASE.read_text()


def test_the_release_is_built_with_locked_tools_of_the_project_s_build_backend() -> None:
    lock = (ROOT / "requirements-release.txt").read_text()
    backend = re.search(r'requires = \["([^"]+)"\]', (ROOT / "pyproject.toml").read_text())
    assert backend is not None
    assert f"{backend[1]} " in lock
    assert "requirements-release.txt" in str(jobs_of(RELEASE)["build"]["steps"])
