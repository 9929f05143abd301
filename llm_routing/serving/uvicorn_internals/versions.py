"""Which uvicorn is installed, and whether its internals are those that the tests have seen."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

OLDEST, NEWEST = (0, 30), (0, 54)
"""The tested releases."""

HTTPTOOLS = "uvicorn.protocols.http.httptools_impl"
H11 = "uvicorn.protocols.http.h11_impl"

_METHODS = (
    "connection_made",
    "connection_lost",
    "data_received",
    "on_response_complete",
)
_PROTOCOLS = {
    HTTPTOOLS: ("HttpToolsProtocol", (*_METHODS, "on_body", "on_message_begin")),
    H11: ("H11Protocol", _METHODS),
}


def problems() -> Sequence[str]:
    """Returns why the installed uvicorn cannot be extended; nothing if it can."""
    try:
        version = import_module("uvicorn").__version__
    except ImportError:
        return []
    found = []
    if not OLDEST <= _release(version) <= NEWEST:
        found.append(f"uvicorn {version} is not between {_text(OLDEST)} and {_text(NEWEST)}")
    for module, protocol in protocols().items():
        found += [
            f"{module}.{_PROTOCOLS[module][0]} has no {method}"
            for method in _PROTOCOLS[module][1]
            if not callable(getattr(protocol, method, None))
        ]
    return found


def protocols() -> dict[str, Any]:
    """Returns uvicorn's protocol classes by module; None for a class that is missing."""
    found = {}
    for module, (name, _) in _PROTOCOLS.items():
        try:
            found[module] = getattr(import_module(module), name, None)
        except ImportError:  # without httptools only h11 can serve
            continue
    return found


def _release(version: str) -> tuple[int, int]:
    parts = version.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (ValueError, IndexError):
        return 0, 0


def _text(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))
