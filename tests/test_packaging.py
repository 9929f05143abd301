"""The wheel alone: installed into an empty Django project, it migrates, serves and answers."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from project.processes import ROOT, free_port

from .servers import INHERITED, Server, serving


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    outcome = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert outcome.returncode == 0, f"{command} failed:\n{outcome.stdout}{outcome.stderr}"
    return outcome.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout without the network."""
    directory = tmp_path_factory.mktemp("wheel")
    options = ["--wheel", "--no-isolation", "--outdir", str(directory)]
    run(sys.executable, "-m", "build", *options, str(ROOT), cwd=directory)
    [path] = directory.glob("*.whl")
    return path


def requirements_of(dist: Distribution, extras: frozenset[str]) -> list[Requirement]:
    """What a distribution with these extras needs on this machine."""
    return [
        needed
        for needed in map(Requirement, dist.requires or ())
        if needed.marker is None
        or any(needed.marker.evaluate({"extra": extra}) for extra in extras | {""})
    ]


def link_dependencies(requirements: list[Requirement], site_packages: Path) -> None:
    """Put the distributions required, and what they require, into `site_packages`; no others.

    They are links to the locked ones of this environment: nothing is downloaded, and a dependency
    that the wheel does not declare is missing just as it would be for a user.
    """
    waiting, seen = list(requirements), set()
    while waiting:
        needed = waiting.pop()
        name, extras = canonicalize_name(needed.name), frozenset(needed.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        dist = distribution(name)
        assert needed.specifier.contains(dist.version, prereleases=True), f"{needed} is not met"
        waiting += requirements_of(dist, extras)
        for top in {path.parts[0] for path in dist.files or () if path.parts[0] != ".."}:
            link = site_packages / top
            if top != "__pycache__" and not link.exists():
                link.symlink_to(Path(str(dist.locate_file(top))))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has the wheel and what it declares, and knows no checkout."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", str(venv), cwd=venv)
    executable = str(venv / "bin" / "python")
    install = ["install", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", executable, *install, str(wheel), cwd=venv)
    [site_packages] = (venv / "lib").glob("python*/site-packages")
    installed = Distribution.at(next(site_packages.glob("django_llm_routing-*.dist-info")))
    link_dependencies(requirements_of(installed, frozenset()), site_packages)
    return executable


@pytest.fixture(scope="module")
def site(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `startproject` makes, with two apps installed and one line of URLs added."""
    directory = tmp_path_factory.mktemp("site")
    run(python, "-m", "django", "startproject", "site_of_a_user", ".", cwd=directory)
    package = directory / "site_of_a_user"
    with (package / "settings.py").open("a") as settings:
        settings.write('\nINSTALLED_APPS += ["simple_history", "llm_routing"]\n')
    with (package / "urls.py").open("a") as urls:
        urls.write("\nfrom django.urls import include\n")
        urls.write('urlpatterns += [path("", include("llm_routing.urls"))]\n')
    return directory


def test_the_wheel_holds_the_app_alone_and_whole(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "llm_routing",
        "django_llm_routing",
    }
    tracked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "llm_routing").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert tracked <= names
    assert "llm_routing/py.typed" in names
    assert "llm_routing/migrations/0001_initial.py" in names


def test_an_empty_project_with_the_app_gets_an_answer(
    python: str, site: Path, sandbox: Server, tmp_path: Path
):
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    env = inherited | {"LLM_SANDBOX_URL": sandbox.url}
    where = run(python, "-c", "import llm_routing; print(llm_routing.__file__)", cwd=site, env=env)
    assert ROOT not in Path(where.strip()).parents

    def manage(*arguments: str) -> str:
        return run(python, "manage.py", *arguments, cwd=site, env=env)

    assert "no issues" in manage("check")
    manage("makemigrations", "--check", "--dry-run")
    manage("migrate", "--verbosity=0")
    manage("setup_llm_configuration", "--verbosity=0")
    key = json.loads(manage("create_llm_key", "first", "--json"))["key"]
    port = free_port()
    command = [python, "-m", "uvicorn", "site_of_a_user.asgi:application", "--port", str(port)]
    with serving(command, port=port, log=tmp_path / "server.log", env=env, cwd=site) as server:
        response = httpx.post(
            f"{server.url}/api/llm/complete",
            json={"messages": "Hello", "use_case": "debugging", "tier": "premium"},
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )
        assert response.status_code == 200, response.text + server.output()
        answer = response.json()
    assert answer["content"]
    assert (answer["use_case"], answer["tier"]) == ("debugging", "premium")
    assert answer["provider"] == "sandbox"
