"""Typed readers of a decoded request body. Errors name the field by its path.

The meaning of fields is up to the wire formats. No error message repeats a value.
"""

from collections.abc import Collection, Mapping
from math import inf
from typing import Any

from llm_routing.core.errors import InvalidRequest


class Fields:
    """An object of the body and its path (`messages.0`; empty for the body itself).

    Every reader treats null as a missing field. Raises `InvalidRequest`, which names the path, for
    a value of the wrong type.
    """

    __slots__ = ("path", "value")

    def __init__(self, value: Any, path: str = "") -> None:
        """Raises `InvalidRequest` if `value` is not a JSON object."""
        if not isinstance(value, dict):
            raise InvalidRequest(f"{path or 'The body'} must be an object.", field=path or None)
        self.value: Mapping[str, Any] = value
        self.path = path

    def at(self, name: str) -> str:
        """Returns the path of the field `name`."""
        return f"{self.path}.{name}" if self.path else name

    def invalid(self, name: str, expected: str) -> InvalidRequest:
        """Returns the error for the field `name`; `expected` continues the sentence after it."""
        path = self.at(name)
        return InvalidRequest(f"{path} {expected}.", field=path)

    def get(self, name: str) -> Any:
        """Returns the value as it is, or None if it is missing."""
        return self.value.get(name)

    def required(self, name: str) -> Any:
        """Returns the value as it is. Raises `InvalidRequest` if it is missing or null."""
        value = self.value.get(name)
        if value is None:
            raise self.invalid(name, "is required")
        return value

    def string(self, name: str) -> str | None:
        """Returns a string."""
        value = self.value.get(name)
        if value is not None and not isinstance(value, str):
            raise self.invalid(name, "must be a string")
        return value

    def required_string(self, name: str) -> str:
        """Returns a string. Raises `InvalidRequest` if it is missing."""
        value = self.value.get(name)
        if isinstance(value, str):
            return value
        raise self.invalid(name, "is required" if value is None else "must be a string")

    def choice(self, name: str, allowed: Collection[str]) -> str | None:
        """Returns a string that is one of `allowed`."""
        value = self.value.get(name)
        if value is not None and not (isinstance(value, str) and value in allowed):
            raise self.invalid(name, f"must be one of {', '.join(allowed)}")
        return value

    def boolean(self, name: str) -> bool | None:
        """Returns a boolean."""
        value = self.value.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.invalid(name, "must be true or false")
        return value

    def integer(self, name: str, minimum: float = -inf, maximum: float = inf) -> int | None:
        """Returns an integer within the bounds, which are inclusive."""
        value = self.value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.invalid(name, "must be a whole number")
        if value < minimum or value > maximum:
            raise self._out_of_bounds(name, value, minimum, maximum)
        return value

    def required_integer(self, name: str, minimum: float = -inf, maximum: float = inf) -> int:
        """Returns an integer within the bounds. Raises `InvalidRequest` if it is missing."""
        self.required(name)
        return self.integer(name, minimum, maximum) or 0

    def number(self, name: str, minimum: float = -inf, maximum: float = inf) -> float | None:
        """Returns a finite number within the bounds, which are inclusive."""
        value = self.value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.invalid(name, "must be a number")
        if value < minimum or value > maximum:
            raise self._out_of_bounds(name, value, minimum, maximum)
        try:
            number = float(value)
        except OverflowError:
            number = inf
        if abs(number) == inf:
            raise self.invalid(name, "is too large")
        return number

    def array(self, name: str) -> list[Any] | None:
        """Returns an array of any items."""
        value = self.value.get(name)
        if value is not None and not isinstance(value, list):
            raise self.invalid(name, "must be an array")
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        """Returns an array of strings, empty if it is missing."""
        values = self.array(name) or []
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise self.invalid(f"{name}.{index}", "must be a string")
        return tuple(values)

    def object(self, name: str) -> "Fields | None":
        """Returns an object as `Fields`."""
        value = self.value.get(name)
        return None if value is None else Fields(value, self.at(name))

    def required_object(self, name: str) -> "Fields":
        """Returns an object as `Fields`. Raises `InvalidRequest` if it is missing."""
        return Fields(self.required(name), self.at(name))

    def objects(self, name: str) -> tuple["Fields", ...]:
        """Returns an array of objects, empty if it is missing."""
        path = self.at(name)
        values = self.array(name) or []
        return tuple(Fields(value, f"{path}.{index}") for index, value in enumerate(values))

    def required_objects(self, name: str) -> tuple["Fields", ...]:
        """Returns a non-empty array of objects. Raises `InvalidRequest` if it is missing."""
        self.required(name)
        found = self.objects(name)
        if not found:
            raise self.invalid(name, "must not be empty")
        return found

    def _out_of_bounds(
        self, name: str, value: float, minimum: float, maximum: float
    ) -> InvalidRequest:
        bound = f"{minimum} or more" if value < minimum else f"{maximum} or less"
        return self.invalid(name, f"must be {bound}")


def read_cache_control(owner: Fields) -> Mapping[str, Any] | None:
    """Returns Anthropic's `cache_control` of a part, or None."""
    mark = owner.value.get("cache_control")
    return mark if isinstance(mark, dict) and mark else None
