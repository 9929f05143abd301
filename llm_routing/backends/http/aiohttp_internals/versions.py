"""Which aiohttp is installed, and whether its internals are those that the tests have seen."""

import inspect
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from llm_routing.system.releases import Release, untested_release

OLDEST, NEWEST = Release(3, 12), Release(3, 14)
"""The tested releases."""

_PROTOCOL = "aiohttp.client_proto.ResponseHandler"
_CONNECTOR = "aiohttp.connector.TCPConnector"
_REQUEST = "aiohttp.client_reqrep.ClientRequest"
_CONNECTION = "aiohttp.connector.Connection"
_CONTENT = "aiohttp.streams.StreamReader"

ATTRIBUTES = {
    _PROTOCOL: (
        *("connection_lost", "data_received", "eof_received", "exception", "feed_data"),
        *("is_connected", "read", "set_exception", "set_response_params"),
    ),
    _CONNECTOR: ("connect",),
    _CONNECTION: ("close", "protocol", "release"),
    _CONTENT: ("exception", "is_eof", "on_eof", "read_nowait", "set_exception"),
    _REQUEST: ("GET_METHODS", "connection_key"),
}
SET_BY_INIT = {
    _PROTOCOL: ("_buffer", "_payload", "_tail", "transport"),
    _CONNECTOR: ("_factory", "_loop"),
    _CONTENT: ("total_bytes",),
}
PARAMETERS = {
    _PROTOCOL: (("__init__", ("loop",)), ("set_response_params", ("read_until_eof",))),
    _CONNECTOR: (("connect", ("req", "traces", "timeout")),),
    _REQUEST: (("__init__", ("method", "url", "headers", "loop")),),
}
OTHERS = ("aiohttp.http_exceptions.HttpProcessingError",)


def problems() -> Sequence[str]:
    """Returns why our request path cannot run on the installed aiohttp; nothing if it can."""
    untested = untested_release("aiohttp", OLDEST, NEWEST)
    return [untested, *_missing()] if untested else [*_missing()]


def _missing() -> Iterator[str]:
    for name in sorted({*ATTRIBUTES, *SET_BY_INIT, *PARAMETERS, *OTHERS}):
        owner = _find(name)
        if owner is None:
            yield f"{name} is missing"
            continue
        for method in ATTRIBUTES.get(name, ()):
            if getattr(owner, method, None) is None:
                yield f"{name} has no {method}"
        attributes = _set_by_init(owner)
        for attribute in SET_BY_INIT.get(name, ()):
            if attribute not in attributes:
                yield f"{name} has no {attribute}"
        for method, parameters in PARAMETERS.get(name, ()):
            known = _parameters(getattr(owner, method, None))
            for each in parameters:
                if each not in known:
                    yield f"{name}.{method} has no {each}"


def _find(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute, None)
    except ImportError:
        return None


def _set_by_init(owner: type) -> set[str]:
    """Returns the names of the attributes that constructors of a class and its bases use."""
    found: set[str] = set()
    for each in owner.__mro__:
        code = getattr(vars(each).get("__init__"), "__code__", None)
        found.update(code.co_names if code is not None else ())
    return found


def _parameters(function: Any) -> Sequence[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []
