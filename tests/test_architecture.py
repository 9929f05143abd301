"""What import-linter has no contract for: an allow-list of what the inner rings may import."""

import sys

import grimp
import pytest

ALLOWED = frozenset(sys.stdlib_module_names) | {
    "llm_routing",
    "msgspec",
    "pydantic",
    "pydantic_core",
}

# Not threading: a lock around what threads share knows nothing of the world.
WORLD = frozenset({"logging", "os", "pathlib", "socket", "ssl", "subprocess", "time"})


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("llm_routing", include_external_packages=True, cache_dir=None)


def imports_of(graph: grimp.ImportGraph, package: str) -> set[tuple[str, str]]:
    """Each module of a package with the top-level package of each of its imports."""
    return {
        (module, imported.split(".")[0])
        for module in {package} | graph.find_descendants(package)
        for imported in graph.find_modules_directly_imported_by(module)
    }


@pytest.mark.parametrize("package", ["core", "formats", "vendors"])
def test_the_inner_rings_import_nothing_but_stdlib_pydantic_and_msgspec(graph, package):
    imports = imports_of(graph, f"llm_routing.{package}")
    assert {(module, name) for module, name in imports if name not in ALLOWED} == set()


@pytest.mark.parametrize("package", ["core", "formats"])
def test_time_and_the_world_come_in_as_arguments(graph, package):
    imports = imports_of(graph, f"llm_routing.{package}")
    assert {(module, name) for module, name in imports if name in WORLD} == set()
