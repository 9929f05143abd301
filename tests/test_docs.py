"""The documentation names what the code has, all of it and nothing else."""

import re
from pathlib import Path

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

import llm_routing
from llm_routing import errors, events
from llm_routing.api import get_api, headers
from llm_routing.conf import Settings
from llm_routing.core import events as core_events
from llm_routing.core.errors import ERRORS_BY_CODE, LLMError, RoutingError, UpstreamError
from llm_routing.metrics.families import FAMILIES
from llm_routing.vendors import VENDORS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ABSTRACT = {"llm_error", "request_error", "upstream_error", "routing_error"}


def rows(page: str) -> dict[str, list[str]]:
    """The cells of every table row that begins with a name in code style, by that name."""
    found = {}
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `"):
            found[cells[0].strip("`")] = [cell.rstrip(" |") for cell in cells[1:]]
    return found


def test_every_error_has_its_row_with_what_follows_from_it() -> None:
    documented = rows("errors.md")
    assert set(documented) == set(ERRORS_BY_CODE) - ABSTRACT, "rows of docs/errors.md"
    for code, cells in documented.items():
        error: type[LLMError] = ERRORS_BY_CODE[code]
        if not issubclass(error, RoutingError):
            assert cells[0] == str(error.http_status), code
        if issubclass(error, UpstreamError):
            flags = (
                error.retryable_elsewhere,
                error.retryable_here,
                error.counts_against_breaker,
                error.billed,
            )
            assert [cell == "yes" for cell in cells[1:]] == list(flags), code


def test_every_failure_has_its_row_with_what_comes_of_it() -> None:
    documented = rows("failures.md")
    known = {
        code
        for code, error in ERRORS_BY_CODE.items()
        if issubclass(error, UpstreamError | RoutingError)
    }
    assert set(documented) == known - ABSTRACT, "rows of docs/failures.md"
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", (DOCS / "failures.md").read_text()))
    assert named <= {name.upper() for name in Settings.model_fields}
    for code, cells in documented.items():
        assert len(cells) == 5, code
        error = ERRORS_BY_CODE[code]
        if issubclass(error, UpstreamError):
            _when, caller, provider, billed, _setting = cells
            assert ("tokens" in billed) >= error.billed, code
            assert ("retr" in provider) == error.retryable_here, code
            assert ("the next answer" in caller) <= error.retryable_elsewhere, code


def test_every_setting_has_its_row_with_its_variable() -> None:
    documented = rows("settings.md")
    settings = {name.upper(): field for name, field in Settings.model_fields.items()}
    project = {name for name in documented if name.startswith(("DJANGO_", "DATABASE_", "PG"))}
    assert set(documented) - project - {"PORT"} == set(settings), "rows of docs/settings.md"
    for name, field in settings.items():
        assert documented[name][0] == (f"`{field.alias}`" if field.alias else ""), name


def test_every_setting_has_its_default_in_its_row() -> None:
    documented = rows("settings.md")
    described = {
        "LEDGER_MAX_BYTES": "1 GiB",
        "KEY_PEPPER": "from `SECRET_KEY`",
        "ENCRYPTION_KEYS": "from `SECRET_KEY`",
        "STATE_DIR": "`var/llm_routing` below `BASE_DIR`",
    }
    for name, field in Settings.model_fields.items():
        key, default = name.upper(), field.default
        if key in described:
            allowed = {described[key]}
        elif isinstance(default, bool):
            allowed = {"on", "true"} if default else {"off", "false"}
        elif isinstance(default, int | float):
            allowed = {f"{default:.15g}"}
        else:
            allowed = {f"`{default}`"} if default else {"empty", "none"}
        assert documented[key][1].split(";")[0] in allowed, f"{key} in docs/settings.md"


def test_every_metric_has_its_row_with_its_labels() -> None:
    documented = {name: cells for name, cells in rows("metrics.md").items() if "llm_" in name}
    assert set(documented) == set(FAMILIES), "rows of docs/metrics.md"
    for name, family in FAMILIES.items():
        kind, labels, _ = documented[name]
        assert kind == family.kind.value, name
        assert tuple(re.findall("[a-z_]+", labels)) == family.labels, name


def test_every_vendor_s_key_has_its_row_among_the_settings() -> None:
    first_cells = re.findall(
        r"^\| – \| ([^|]+) \|", (DOCS / "settings.md").read_text(), re.MULTILINE
    )
    documented = {name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}
    read = {name for vendor in VENDORS.values() for name in vendor.api_key_envs}
    assert documented == read | {"DATABASE_URL"}, "rows of docs/settings.md"


def test_every_variable_the_project_reads_has_its_row() -> None:
    source = "".join(path.read_text() for path in (ROOT / "project").glob("*.py"))
    read = set(re.findall(r'"((?:DJANGO|DATABASE|REDIS)_[A-Z_]+)"', source))
    read -= {"DJANGO_SETTINGS_MODULE"}
    documented = rows("settings.md")
    assert read == {
        name for name in documented if name.startswith(("DJANGO_", "DATABASE_", "REDIS_"))
    }


def test_every_endpoint_and_header_has_its_row() -> None:
    found = set(rows("http.md"))
    paths = get_api().get_openapi_schema()["paths"]
    endpoints = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    assert {name for name in found if "/" in name} == endpoints, "rows of docs/http.md"
    described = set(re.findall(r"^ *(x-[a-z-]+) ", str(headers.__doc__), re.MULTILINE))
    assert {name for name in found if name.startswith("x-")} == described


def test_every_public_name_is_in_the_reference() -> None:
    page = (DOCS / "api.md").read_text()
    assert [name for name in llm_routing.__all__ if f"llm_routing.{name}\n" not in page] == []
    every = {error.__name__ for error in ERRORS_BY_CODE.values()}
    assert set(errors.__all__) == every, "names in llm_routing/errors.py"
    defined = {name for name, kind in vars(core_events).items() if isinstance(kind, type)}
    assert {name for name in defined if name.endswith(("Delta", "Started", "Ended"))} <= set(
        events.__all__
    )
    for module in (errors, events):
        assert f".. automodule:: {module.__name__}\n" in page


def test_every_command_has_its_row_with_its_options_and_is_named_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    documented = {name: cells for name, cells in rows("commands.md").items() if "." not in name}
    ours = [name for name, app in get_commands().items() if app == "llm_routing"]
    assert set(documented) == set(ours), "rows of docs/commands.md"
    assert [name for name in ours if name not in readme] == [], "commands in README.md"
    of_django = options(BaseCommand())
    for name in ours:
        inherited = options(load_command("migrate")) if name == "llm_migrate" else of_django
        expected = options(load_command(name)) - inherited
        assert set(re.findall("--[a-z-]+", documented[name][0])) == expected, name


def load_command(name: str) -> BaseCommand:
    app = get_commands()[name]
    return app if isinstance(app, BaseCommand) else load_command_class(app, name)


def options(command: BaseCommand) -> set[str]:
    """Returns the long options in a command's help."""
    return set(re.findall(r"--[a-z-]+", command.create_parser("manage.py", "").format_help()))


def test_every_check_has_its_row() -> None:
    source = "".join(path.read_text() for path in (ROOT / "llm_routing").rglob("*.py"))
    ids = set(re.findall(r'id="(llm_routing\.[EW]\d+)"', source))
    documented = {name for name in rows("commands.md") if name.startswith("llm_routing.")}
    assert documented == ids, "rows of docs/commands.md"


SOURCES = (".py", ".html", ".css", ".js")


def test_every_folder_is_on_the_map_of_the_architecture() -> None:
    page = (DOCS / "architecture.md").read_text()
    # A folder that was renamed may stay behind with nothing but bytecode.
    files = [path for path in (ROOT / "llm_routing").rglob("*") if path.suffix in SOURCES]
    folders = {path.relative_to(ROOT / "llm_routing").parts[0] for path in files}
    missing = [name for name in sorted(folders) if "." not in name and f"`{name}/`" not in page]
    assert missing == [], "folders in docs/architecture.md"


def test_every_link_of_the_readme_leads_somewhere() -> None:
    readme = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", readme):
        assert (ROOT / target).exists(), target
