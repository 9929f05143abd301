"""Typed readers of a decoded request body; whatever is wrong is named by its path.

What a field means is for the wire format; nothing here knows one. No message repeats a value.
"""

from collections.abc import Collection, Mapping
from typing import Any

from llm_routing.core.errors import InvalidRequest


class Fields:
    """An object of the body and where it stands (`messages.0`; empty for the body itself).

    Every reader takes null for a missing field, and raises `InvalidRequest` naming the path for a
    value of the wrong kind.
    """

    __slots__ = ("path", "value")

    def __init__(self, value: Any, path: str = "") -> None:
        """Raises `InvalidRequest` where `value` is not a JSON object."""
        if not isinstance(value, dict):
            raise InvalidRequest(f"{path or 'The body'} must be an object.", field=path or None)
        self.value: Mapping[str, Any] = value
        self.path = path

    def at(self, name: str) -> str:
        """The path of the field `name`."""
        return f"{self.path}.{name}" if self.path else name

    def invalid(self, name: str, expected: str) -> InvalidRequest:
        """The error to raise for the field `name`; `expected` goes on from its path."""
        path = self.at(name)
        return InvalidRequest(f"{path} {expected}.", field=path)

    def get(self, name: str) -> Any:
        """The value as it is, None where it is missing."""
        return self.value.get(name)

    def required(self, name: str) -> Any:
        """The value as it is; it must be there and not null."""
        value = self.value.get(name)
        if value is None:
            raise self.invalid(name, "is required")
        return value

    def string(self, name: str) -> str | None:
        """A string."""
        value = self.value.get(name)
        if value is not None and not isinstance(value, str):
            raise self.invalid(name, "must be a string")
        return value

    def required_string(self, name: str) -> str:
        """A string that must be there."""
        self.required(name)
        return self.string(name) or ""

    def choice(self, name: str, allowed: Collection[str]) -> str | None:
        """A string that is one of `allowed`."""
        value = self.value.get(name)
        if value is not None and not (isinstance(value, str) and value in allowed):
            raise self.invalid(name, f"must be one of {', '.join(allowed)}")
        return value

    def boolean(self, name: str) -> bool | None:
        """True or false."""
        value = self.value.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.invalid(name, "must be true or false")
        return value

    def integer(
        self, name: str, minimum: int | None = None, maximum: int | None = None
    ) -> int | None:
        """A whole number within the bounds, both of which may be met."""
        value = self.value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.invalid(name, "must be a whole number")
        self._check_bounds(name, value, minimum, maximum)
        return value

    def required_integer(
        self, name: str, minimum: int | None = None, maximum: int | None = None
    ) -> int:
        """A whole number that must be there, within the bounds."""
        self.required(name)
        return self.integer(name, minimum, maximum) or 0

    def number(
        self, name: str, minimum: float | None = None, maximum: float | None = None
    ) -> float | None:
        """A number within the bounds, both of which may be met; never infinite."""
        value = self.value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.invalid(name, "must be a number")
        self._check_bounds(name, value, minimum, maximum)
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if abs(number) == float("inf"):
            raise self.invalid(name, "is too large")
        return number

    def array(self, name: str) -> list[Any] | None:
        """An array, of whatever."""
        value = self.value.get(name)
        if value is not None and not isinstance(value, list):
            raise self.invalid(name, "must be an array")
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        """An array of strings; empty where it is missing."""
        values = self.array(name) or []
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise self.invalid(f"{name}.{index}", "must be a string")
        return tuple(values)

    def object(self, name: str) -> "Fields | None":
        """An object, to read on from."""
        value = self.value.get(name)
        return None if value is None else Fields(value, self.at(name))

    def required_object(self, name: str) -> "Fields":
        """An object that must be there."""
        return Fields(self.required(name), self.at(name))

    def objects(self, name: str) -> tuple["Fields", ...]:
        """An array of objects; empty where it is missing."""
        path = self.at(name)
        values = self.array(name) or []
        return tuple(Fields(value, f"{path}.{index}") for index, value in enumerate(values))

    def required_objects(self, name: str) -> tuple["Fields", ...]:
        """An array of objects with one at least."""
        self.required(name)
        found = self.objects(name)
        if not found:
            raise self.invalid(name, "must not be empty")
        return found

    def _check_bounds(
        self, name: str, value: float, minimum: float | None, maximum: float | None
    ) -> None:
        if minimum is not None and value < minimum:
            raise self.invalid(name, f"must be {minimum} or more")
        if maximum is not None and value > maximum:
            raise self.invalid(name, f"must be {maximum} or less")


def read_cache_control(owner: Fields) -> Mapping[str, Any] | None:
    """The mark of a prompt that is to be cached up to here, as Anthropic has it."""
    mark = owner.value.get("cache_control")
    return mark if isinstance(mark, dict) and mark else None
