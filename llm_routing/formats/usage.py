"""Token counts of vendors, converted to integers.

The `usage` modules of the formats interpret the counts.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from llm_routing.core.types import MAX_TOKEN_COUNT

_NUMBER: Final = re.compile(r"\s*([0-9]{1,12})(?:\.([0-9]{0,12}))?\s*", re.ASCII)


class InvalidCount(ValueError):
    """A count that no answer can have."""


def repair_usage(owner: dict[str, Any]) -> bool:
    """Converts the counts in `owner["usage"]` to integers. Returns whether anything was changed.

    A usage with an impossible count (negative, huge, not a number) is discarded: it becomes None.
    """
    usage = owner.get("usage")
    if not isinstance(usage, dict):
        return False
    try:
        repaired = _repaired(usage)
    except InvalidCount:
        repaired = None
    if repaired is usage:
        return False
    owner["usage"] = repaired
    return True


def _repaired(counts: dict[str, Any]) -> dict[str, Any]:
    """Returns `counts` itself if every count is an integer or null. Raises `InvalidCount`."""
    changed: dict[str, Any] = {}
    for name, value in counts.items():
        if type(value) is int and 0 <= value <= MAX_TOKEN_COUNT:
            continue
        if isinstance(value, dict):
            repaired = _repaired(value)
            if repaired is not value:
                changed[name] = repaired
        elif name.endswith("tokens") and value is not None:
            count = read_count(value)
            if count is None:
                raise InvalidCount
            changed[name] = count
    return {**counts, **changed} if changed else counts


def read_count(value: Any) -> int | None:
    """Returns the integer that a JSON value means, rounded up, or None if it is not a count."""
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if match is None:
            return None
        value = int(match[1]) + (match[2] or "").strip("0").isdigit()
    elif isinstance(value, float):
        value = math.ceil(value) if 0 <= value <= MAX_TOKEN_COUNT else None
    if type(value) is not int or not 0 <= value <= MAX_TOKEN_COUNT:
        return None
    return value


def counts_in(owner: Any) -> Mapping[str, int]:
    """Returns the counts in a repaired object that are not zero, by their names."""
    if not isinstance(owner, dict):
        return {}
    return {
        name: value
        for name, value in owner.items()
        if type(value) is int and 0 < value <= MAX_TOKEN_COUNT
    }
