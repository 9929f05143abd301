"""Tests ask a class for what it offers to everybody, so that its insides can change."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

DOCUMENTED = {
    "_change_reason": "django-simple-history: the reason of the next historical row",
    "_default_manager": "Django: a model's manager, whatever it is called",
    "_exit": "os: how a forked child ends",
    "_meta": "Django: a model's options",
    "_replace": "named tuples",
    "_request_id": "the SDKs of OpenAI and Anthropic",
}
"""Names that begin with an underscore and are public by their documentation."""

EXCEPTIONS = {
    ("api/test_idempotency.py", "_idempotency_header"): "no other way to switch on what the SDK of "
    "OpenAI can do",
    ("backends/http/test_proxies.py", "_SSL_CONTEXT_VERIFIED"): "aiohttp reads the certificates of "
    "authorities when it is imported",
    ("formats/test_nonconforming_streams.py", "_messages"): "the SDK of Anthropic offers the "
    "accumulator of its streams nowhere else",
    ("sdks/gateway_plugin.py", "_build_request"): "the SDKs' own tests are run with another body",
    ("system/test_forks.py", "_set_running_loop"): "a child forked inside a running loop has no "
    "other way to leave it",
}
"""Private state of others that a test cannot do without, by file and name, with the reason."""

REFLECTION = ("delattr", "getattr", "hasattr", "object", "patch", "setattr")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_own(node: ast.expr) -> bool:
    """Whether an expression is an object of the class that the code is in."""
    return ast.unparse(node) in ("self", "cls", "super()")


def private_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The private names that a module takes from others, with their lines."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name, value=value) if is_private(name) and not is_own(value):
                yield node.lineno, name
            case ast.ImportFrom(module=module, names=names):
                parts = (module or "").split(".") + [alias.name for alias in names]
                yield from ((node.lineno, part) for part in parts if is_private(part))
            case ast.Call(func=ast.Attribute(attr=call) | ast.Name(id=call), args=arguments) if (
                call in REFLECTION
            ):
                for argument in arguments[:2]:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        parts = argument.value.split(".")
                        yield from ((node.lineno, part) for part in parts if is_private(part))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("router._parts.transport", ["_parts"]),
        ("self._parts", []),
        ("self.router._parts", ["_parts"]),
        ("from a._b import c", ["_b"]),
        ("from .a import _c", ["_c"]),
        ("monkeypatch.setattr(a, '_b', 1)", ["_b"]),
        ("monkeypatch.setattr('a.b._c', 1)", ["_c"]),
        ("getattr(a, '_b', None)", ["_b"]),
        ("patch.object(a, '_b')", ["_b"]),
        ("'_b'; a.__name__; print('_b')", []),
    ],
)
def test_private_names_are_found(code: str, found: list[str]) -> None:
    assert [name for _, name in private_names(ast.parse(code))] == found


def test_tests_read_no_private_state() -> None:
    """Give the class a small public status instead, or watch what its callers see."""
    found, used = [], set()
    for path in sorted(TESTS.rglob("*.py")):
        file = path.relative_to(TESTS).as_posix()
        for line, name in private_names(ast.parse(path.read_text())):
            if (file, name) in EXCEPTIONS:
                used.add((file, name))
            elif name not in DOCUMENTED:
                found.append(f"{file}:{line} {name}")
    assert found == []
    assert used == EXCEPTIONS.keys(), "remove the exceptions that nothing needs any more"
