"""A base for immutable values with fields that must not be shown, e.g. bodies and keys."""

from typing import Any, ClassVar

from msgspec import Struct


class HidesFields(Struct, frozen=True):
    """A struct whose representations leave out `hidden_fields`."""

    hidden_fields: ClassVar[frozenset[str]]

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Returns the fields that may be shown; `rich` calls this instead of `repr`.

        https://rich.readthedocs.io/en/stable/pretty.html#rich-repr-protocol
        """
        return [
            (name, getattr(self, name))
            for name in self.__struct_fields__
            if name not in self.hidden_fields
        ]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__qualname__}({shown})"
