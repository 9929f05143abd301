"""Reads the fields of a JSON body as strictly as a vendor does: a wrong field raises `BadRequest`.

The modules of the formats interpret the fields.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


class BadRequest(Exception):
    """The request is rejected: `status`, a message, the wrong field and a code."""

    def __init__(
        self, message: str, param: str | None = None, *, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.status = status
        self.code = code


def decode(data: bytes) -> Mapping[str, Any]:
    """Returns the JSON object in a body. Raises `BadRequest` for anything else, for NaN, for lone
    surrogates and for excessive nesting."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise BadRequest("We could not parse the JSON body of your request.") from error
    if not isinstance(value, dict):
        raise BadRequest("The JSON body of your request has to be an object.")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def text(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Returns a string; required unless there is a default."""
    value = body.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise BadRequest(_problem(value, name, "a string"), name)
    return value


def flag(body: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """Returns a boolean."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(_problem(value, name, "a boolean"), name)
    return value


def integer(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    """Returns an integer within bounds, or None if it is absent."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest(_problem(value, name, "an integer"), name)
    if not low <= value <= high:
        raise BadRequest(f"Invalid '{name}': expected a value from {low} to {high}.", name)
    return value


def number(body: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    """Returns a number within bounds, or None if it is absent."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(_problem(value, name, "a number"), name)
    if not math.isfinite(value) or not low <= value <= high:
        raise BadRequest(f"Invalid '{name}': expected a value from {low} to {high}.", name)
    return float(value)


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """Returns `value` as an object."""
    if not isinstance(value, dict):
        raise BadRequest(_problem(value, name, "an object"), name)
    return value


def sequence(value: Any, name: str) -> Sequence[Any]:
    """Returns `value` as an array."""
    if not isinstance(value, list):
        raise BadRequest(_problem(value, name, "an array"), name)
    return value


def strings(value: Any, name: str, most: int) -> tuple[str, ...]:
    """Returns `value` as strings: none, one, or an array of at most `most`."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    items = sequence(value, name)
    if len(items) > most or not all(isinstance(item, str) for item in items):
        raise BadRequest(f"Invalid '{name}': expected at most {most} strings.", name)
    return tuple(items)


def _problem(value: Any, name: str, wanted: str) -> str:
    if value is None:
        return f"Missing required parameter: '{name}'."
    return f"Invalid type for '{name}': expected {wanted}."
