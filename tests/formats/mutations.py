"""Every way to put a wrong value into one place of a JSON document."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from llm_routing.core.errors import LLMError

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    1e308,
    float("inf"),
    "",
    "x",
    "\ud800",
    '{"a":',
    [],
    [None],
    [[]],
    ["text"],
    {},
    {"type": None},
    {"type": ["text"]},
    {"type": "text", "text": None},
)
ADDED: tuple[Any, ...] = (1, [None], [{"type": "x"}])
_REMOVED = object()


def mutated(document: Any) -> Iterator[tuple[str, bytes]]:
    """Yields the JSON text of `document` with each of `VALUES` in each of its places, and without
    each of its fields and items; and with each of its field names, and each of `ADDED`, in every
    object that lacks it. Descriptions come with them."""
    paths = list(_paths(document))
    names = {step for path in paths for step in path if isinstance(step, str)}
    for path in paths:
        for value in (*VALUES, _REMOVED):
            if path or value is not _REMOVED:
                yield f"{path}: {value!r:.40}", json.dumps(_with(document, path, value)).encode()
        found = _at(document, path)
        for name in sorted(names - found.keys()) if isinstance(found, dict) else ():
            for value in ADDED:
                changed = _with(document, (*path, name), value)
                yield f"{(*path, name)}: {value!r}", json.dumps(changed).encode()


@contextmanager
def only_our_errors(what: str) -> Iterator[None]:
    """Suppresses our own errors, and adds `what` to any other."""
    try:
        yield
    except LLMError:
        pass
    except Exception as error:
        error.add_note(what)
        raise


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(item, (*path, name))


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def _with(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = deepcopy(document)
    owner = _at(changed, path[:-1])
    if value is _REMOVED:
        del owner[path[-1]]
    else:
        owner[path[-1]] = value
    return changed
