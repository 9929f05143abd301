"""Checks the release of uvicorn, and whether its internals are those of the tests."""

from collections.abc import Iterator, Sequence
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
UTILS = "uvicorn.protocols.utils"
_UTILITIES = ("get_client_addr", "get_path_with_query_string")
CYCLE = f"{HTTPTOOLS}.RequestResponseCycle"
_SET_BY_INIT = (
    *("access_log", "access_logger", "default_headers", "disconnected", "flow", "keep_alive"),
    *("message_event", "on_response", "response_complete", "response_started", "scope"),
    *("transport", "waiting_for_100_continue"),
)
"""The attributes of a cycle, which serves one request."""


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
    return [*found, *_missing_for_writes()]


def _missing_for_writes() -> Iterator[str]:
    if HTTPTOOLS not in protocols():
        return
    module = import_module(HTTPTOOLS)
    if not isinstance(getattr(module, "STATUS_LINE", None), dict):
        yield f"{HTTPTOOLS} has no STATUS_LINE"
    utils = import_module(UTILS)
    for function in _UTILITIES:
        if not callable(getattr(utils, function, None)):
            yield f"{UTILS} has no {function}"
    constructor = getattr(getattr(module, "RequestResponseCycle", None), "__init__", None)
    attributes = getattr(getattr(constructor, "__code__", None), "co_names", ())
    for attribute in _SET_BY_INIT:
        if attribute not in attributes:
            yield f"{CYCLE} has no {attribute}"


def protocols() -> dict[str, Any]:
    """Returns uvicorn's protocol classes by module; None for a class that is missing."""
    found = {}
    for module, (name, _) in _PROTOCOLS.items():
        try:
            found[module] = getattr(import_module(module), name, None)
        except ImportError:  # without httptools only h11 can serve
            continue
    return found
