"""Reads values that may be of another type than the wire format says."""

from typing import Any


def text_of(value: Any) -> str:
    """Returns the string, or an empty one for anything else."""
    return value if isinstance(value, str) else ""


def objects_of(value: Any) -> list[dict[str, Any]]:
    """Returns the objects of an array, or an empty list for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def strings_of(value: Any) -> list[str]:
    """Returns the strings of an array, or an empty list for anything else."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
