"""Checks the release of uvicorn, and whether its internals are those of the tests."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from llm_routing.system.releases import Release, untested_release

OLDEST, NEWEST = Release(0, 30), Release(0, 54)
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
        untested = untested_release("uvicorn", OLDEST, NEWEST)
    except ImportError:
        return []
    found = [untested] if untested else []
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
