"""The wheel works alone in an empty Django project, and its metadata fits its imports."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hatch_build import readme_for_pypi, repository_address
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
    """Returns what a distribution with these extras requires on this machine."""
    return [
        needed
        for needed in map(Requirement, dist.requires or ())
        if needed.marker is None
        or any(needed.marker.evaluate({"extra": extra}) for extra in extras | {""})
    ]


def link_dependencies(requirements: list[Requirement], site_packages: Path) -> None:
    """Puts the required distributions, and what they require, into `site_packages`; no others.

    They are links into this environment: nothing is downloaded, and a dependency that the wheel
    does not declare is missing, as it would be for a user.
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


def environment_with(wheel: Path, venv: Path, extras: frozenset[str]) -> str:
    """Creates a virtual environment with the wheel, what it and these extras require, and nothing
    else. Returns its interpreter."""
    run(sys.executable, "-m", "venv", "--without-pip", str(venv), cwd=venv.parent)
    executable = str(venv / "bin" / "python")
    install = ["uv", "pip", "install", "--no-deps", "--offline", "--quiet", "--python", executable]
    run(sys.executable, "-m", *install, str(wheel), cwd=venv)
    [site_packages] = (venv / "lib").glob("python*/site-packages")
    installed = Distribution.at(next(site_packages.glob("django_llm_routing-*.dist-info")))
    link_dependencies(requirements_of(installed, extras), site_packages)
    return executable


@pytest.fixture(scope="module")
def bare_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has the wheel without any extra."""
    return environment_with(wheel, tmp_path_factory.mktemp("bare") / "venv", frozenset())


@pytest.fixture(scope="module")
def server_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has the wheel with the extra `server`."""
    venv = tmp_path_factory.mktemp("server") / "venv"
    return environment_with(wheel, venv, frozenset({"server"}))


def new_site(python: str, directory: Path) -> Path:
    """Creates a project with `startproject`, two more apps and one more line of URLs."""
    run(python, "-m", "django", "startproject", "site_of_a_user", ".", cwd=directory)
    package = directory / "site_of_a_user"
    with (package / "settings.py").open("a") as settings:
        settings.write('\nINSTALLED_APPS += ["simple_history", "llm_routing"]\n')
    with (package / "urls.py").open("a") as urls:
        urls.write("\nfrom django.urls import include\n")
        urls.write('urlpatterns += [path("", include("llm_routing.urls"))]\n')
    return directory


def environment(**variables: str) -> dict[str, str]:
    """Returns the environment of a command: nothing of this test run but what a shell has."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | variables


def test_the_wheel_contains_the_whole_app_and_nothing_else(wheel: Path):
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


RELATIVE_TARGET = re.compile(r"\]\((?!https?:)")


def test_no_link_of_the_page_on_pypi_is_broken(wheel: Path):
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    page = archive.read(name).decode()
    assert "# llm_routing" in page
    assert not RELATIVE_TARGET.search(page)


def test_the_page_on_pypi_links_to_the_files_of_the_release():
    readme = (ROOT / "README.md").read_text()
    address = repository_address(
        {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "owner/name"}
    )
    page = readme_for_pypi(readme, address, "v1.2.3")
    assert "](https://github.com/owner/name/raw/v1.2.3/docs/failover.png)" in page
    assert "[Changelog](https://github.com/owner/name/blob/v1.2.3/CHANGELOG.md)" in page
    assert not RELATIVE_TARGET.search(page)
    elsewhere = readme_for_pypi(readme, repository_address({}), "v1.2.3")
    assert "failover.png" not in elsewhere
    assert "the first target fails twice" not in elsewhere
    assert not RELATIVE_TARGET.search(elsewhere)


def test_an_empty_project_serves_a_completion(server_python: str, sandbox: Server, tmp_path: Path):
    site = new_site(server_python, tmp_path)
    env = environment(LLM_SANDBOX_URL=sandbox.url)

    def manage(*arguments: str) -> str:
        return run(server_python, "manage.py", *arguments, cwd=site, env=env)

    manage("migrate", "--verbosity=0")
    manage("setup_llm_configuration", "--verbosity=0")
    key = json.loads(manage("create_llm_key", "first", "--json"))["key"]
    port = free_port()
    command = [server_python, "-m", "uvicorn", "site_of_a_user.asgi:application"]
    command += ["--port", str(port)]
    with serving(command, port=port, log=tmp_path / "server.log", env=env, cwd=site) as server:
        response = httpx.post(
            f"{server.url}/api/llm/complete",
            json={"messages": "Hello", "use_case": "debugging", "tier": "premium"},
            headers={"Authorization": f"Bearer {key}"},
            timeout=90,
        )
        assert response.status_code == 200, response.text + server.output()
        answer = response.json()
    assert answer["content"]
    assert (answer["use_case"], answer["tier"]) == ("debugging", "premium")
    assert answer["provider"] == "sandbox"


IN_PROCESS = """
import sys
from llm_routing import get_llm_router_sync
answer = get_llm_router_sync().complete_sync("Hello", use_case="debugging", tier="premium")
print(answer.provider, answer.content)
loaded = {name.partition(".")[0] for name in sys.modules}
print("extras:", sorted(loaded & {"uvicorn", "psycopg", "redis", "hiredis", "yaml", "MySQLdb"}))
"""


def test_the_wheel_without_extras_works_and_names_the_extra_that_a_feature_needs(
    bare_python: str, sandbox: Server, tmp_path: Path
):
    site = new_site(bare_python, tmp_path)
    env = environment(LLM_SANDBOX_URL=sandbox.url)
    found = run(bare_python, "-c", "import llm_routing; print(llm_routing.__file__)", cwd=site)
    assert ROOT not in Path(found.strip()).parents

    def manage(*arguments: str, **variables: str) -> str:
        return run(bare_python, "manage.py", *arguments, cwd=site, env=env | variables)

    assert "no issues" in manage("check")
    manage("makemigrations", "--check", "--dry-run")
    manage("migrate", "--verbosity=0")
    manage("setup_llm_configuration", "--verbosity=0")
    answer = manage("shell", "--verbosity=0", "--command", IN_PROCESS)
    assert answer.startswith("sandbox ")
    assert "extras: []" in answer

    def failure(*command: str, **variables: str) -> str:
        outcome = subprocess.run(
            [bare_python, *command],
            cwd=site,
            env=env | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert outcome.returncode != 0
        return outcome.stderr

    told = failure("manage.py", "check", REDIS_URL="redis://127.0.0.1:6379/0")
    assert "pip install 'django-llm-routing[redis]'" in told
    (tmp_path / "config.yaml").write_text("model_list: []\n")
    told = failure("manage.py", "migrate_llm_router", "--from", "config.yaml")
    assert "pip install 'django-llm-routing[import]'" in told
    told = failure("-c", "import llm_routing.contrib.health_checks")
    assert "pip install 'django-llm-routing[health-check]'" in told


BY_NAME = {
    "mysqlclient": "imported by Django",
    "uvicorn": "imported by its name once it is known to run",
}
"""Distributions that an extra installs although no `import` statement of ours names them."""


class Imports(ast.NodeVisitor):
    """Collects the modules that a file imports: when it is imported itself, and at any time."""

    def __init__(self) -> None:
        self.at_import: set[str] = set()
        self.at_any_time: set[str] = set()
        self._depth = 0

    def visit_If(self, node: ast.If) -> None:
        """Skips what only the type checker reads."""
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)
        for other in node.orelse:
            self.visit(other)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Imports in a function do not run when the file is imported."""
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]  # noqa: N815

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0 and node.module:
            self._add(node.module)

    def _add(self, module: str) -> None:
        top = module.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "llm_routing":
            self.at_any_time.add(top)
            if not self._depth:
                self.at_import.add(top)


OPTIONAL_FILES = {
    "llm_routing/backends/postgresql.py": "postgres",
    "llm_routing/contrib/health_checks.py": "health-check",
    "llm_routing/importing/yaml_source.py": "import",
}
"""Files that import what an extra installs, and that are imported only when it is needed."""


def test_the_metadata_requires_what_the_code_imports_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    extras = {
        extra: {canonicalize_name(Requirement(text).name) for text in texts}
        for extra, texts in project["optional-dependencies"].items()
    }
    hiredis = {"hiredis"}  # redis[hiredis]
    names = packages_distributions()

    def distributions(modules: set[str]) -> set[str]:
        missing = {module for module in modules if module not in names}
        assert not missing, f"not installed here: {missing}"
        return {canonicalize_name(name) for module in modules for name in names[module]}

    imported: set[str] = set()
    for path in sorted((ROOT / "llm_routing").rglob("*.py")):
        file = str(path.relative_to(ROOT))
        found = Imports()
        found.visit(ast.parse(path.read_text()))
        at_import = distributions(found.at_import)
        allowed = core | extras.get(OPTIONAL_FILES.get(file, ""), set())
        assert at_import <= allowed, f"{file} imports {at_import - allowed}"
        imported |= distributions(found.at_any_time)
    declared = core.union(*extras.values())
    assert imported <= declared | hiredis
    assert core <= imported, f"required and not imported: {core - imported}"
    assert declared - imported - set(BY_NAME) == set()
    assert not core & set().union(*extras.values())


def test_the_wheel_puts_no_upper_bound_on_django():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [django] = [text for text in project["dependencies"] if Requirement(text).name == "django"]
    assert {part.operator for part in Requirement(django).specifier} == {">="}
