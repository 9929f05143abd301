"""The package uses what libraries document. Code that relies on their internals is fenced: a few
modules, which switch themselves off with releases that were not tested."""

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

import llm_routing

from .test_private_state import DOCUMENTED, private_names

ROOT = Path(llm_routing.__file__).parent

FENCES = (
    "backends/http/aiohttp_internals/",
    "serving/uvicorn_internals/",
    "models/gateway_pool.py",
)

MODULES = {"aiohttp": {"aiohttp", "aiohttp.hdrs", "aiohttp.web"}, "uvicorn": {"uvicorn"}}
"""The documented modules of the libraries whose other modules are internals."""

PUBLIC = {
    *DOCUMENTED,
    "_base_manager",  # Django: the manager that related objects are read with
    "_state",  # Django: whether a row is stored, and where
}

EXCEPTIONS = {
    (
        "admin/secret_forms.py",
        "_post_clean",
    ): "Django: the hook between a form's fields and its row",
    ("models/databases.py", "_for_write"): "Django: set by its own methods that write, so that all "
    "steps of a write use one database; tests/databases/test_host_settings.py checks it",
    ("models/fields.py", "_StrPromise"): "django-stubs: imported by type checkers only",
    ("models/usage.py", "_for_write"): "see models/databases.py",
    ("models/version.py", "_for_write"): "see models/databases.py",
    ("models/version.py", "_date_indexing"): "django-simple-history: it reads a setting of the "
    "project instead, and our migrations must not depend on that",
}
"""Private names that the package cannot do without, by file, with the reason."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    """The files of the package outside the fences, by path."""
    for path in sorted(ROOT.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if not name.startswith((*FENCES, "migrations/")):
            yield name, ast.parse(path.read_text())


def own_names(tree: ast.Module) -> set[str]:
    """The names that a file gives to functions, classes, variables and attributes of its own."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store(), value=ast.Name(id="self")):
                found.add(name)
            case _:
                pass
    return found


def imported_modules(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The modules that a file imports, each with a name from it or an empty string."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, "") for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from ((module, alias.name) for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield module, ""
            case _:
                pass


def test_no_private_name_of_a_library_is_used() -> None:
    found = [
        (name, line, private)
        for name, tree in sources()
        for line, private in private_names(tree)
        if private not in PUBLIC | own_names(tree) and (name, private) not in EXCEPTIONS
    ]
    assert found == []


def test_internal_modules_of_aiohttp_and_uvicorn_are_imported_in_their_fences_only() -> None:
    found = []
    for name, tree in sources():
        for module, attribute in imported_modules(tree):
            documented = MODULES.get(module.split(".")[0])
            if documented is None:
                continue
            is_submodule = f"{module}.{attribute}" in documented
            is_undocumented = module == "aiohttp" and attribute not in ("", *aiohttp.__all__)
            if module not in documented or (is_undocumented and not is_submodule):
                found.append((name, module, attribute))
    assert found == []


def classes() -> Iterator[tuple[str, type]]:
    """The classes of the package outside the fences, by file."""
    for module in pkgutil.walk_packages(llm_routing.__path__, "llm_routing."):
        path = module.name.removeprefix("llm_routing.").replace(".", "/")
        if f"{path}/".startswith(FENCES) or f"{path}.py" in FENCES or path.startswith("migrations"):
            continue
        for each in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(each) and each.__module__ == module.name:
                yield f"{path}.py", each


def private_of_bases(kind: type) -> set[str]:
    """The private names that the bases of a class from libraries define or set when they are
    made."""
    found: set[str] = set()
    for base in kind.__mro__[1:]:
        library = base.__module__.split(".")[0]
        if library in ("builtins", "llm_routing", "typing", "abc", "enum"):
            continue
        code = getattr(vars(base).get("__init__"), "__code__", None)
        found.update(vars(base), code.co_names if code is not None else ())
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def test_no_class_uses_or_replaces_private_names_of_its_bases_from_libraries() -> None:
    found = []
    for name, kind in classes():
        private = private_of_bases(kind) - PUBLIC
        if not private:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        except OSError:
            continue  # a library made the class, such as the models of histories
        used = own_names(tree)
        used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        found += [
            (name, kind.__name__, each)
            for each in sorted(used & private)
            if (name, each) not in EXCEPTIONS
        ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "from aiohttp.client_proto import ResponseHandler",
        "import uvicorn.protocols.http.h11_impl",
        "import_module('uvicorn.protocols.http.h11_impl')",
    ],
)
def test_an_import_of_internals_is_found(source: str) -> None:
    [(module, _)] = imported_modules(ast.parse(source))
    assert module not in MODULES[module.split(".")[0]]


def test_a_private_name_of_a_base_is_found() -> None:
    class Connector(aiohttp.TCPConnector):
        pass

    assert {"_factory", "_loop"} <= private_of_bases(Connector)
