"""Cached answers and their JSON form for caches outside the process."""

from typing import ClassVar, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from .codec import encode_struct, struct_decoder
from .hidden_fields import HidesFields
from .types import Usage

# A dictionary slot and its place in the order, two floats and the objects themselves.
_SLOT_BYTES: Final = 800
_CHARACTER_BYTES: Final = 4


class CachedAnswer(HidesFields, frozen=True):
    """An answer as its vendor sent it: the body, or the joined frames of a stream.

    It is parsed again in its own `format`, so callers of every format receive the same as from the
    vendor. `created` is in Unix seconds; the rules define `fingerprint`.
    """

    hidden_fields: ClassVar = frozenset({"body"})

    provider: str
    model: str
    body: bytes
    usage: Usage | None = None
    ignored: tuple[str, ...] = ()
    format: str = ""
    created: int = 0
    fingerprint: str = ""

    @property
    def size(self) -> int:
        """The upper bound of its memory in bytes."""
        characters = len(self.provider) + len(self.model) + len(self.fingerprint)
        if self.ignored:
            characters += sum(map(len, self.ignored))
        return len(self.body) + _CHARACTER_BYTES * characters + _SLOT_BYTES


class _Record(Struct, frozen=True):
    """The JSON document: an answer with its body apart, because a body is shorter as text."""

    schema: Literal[3]
    key: str
    answer: CachedAnswer
    body: str


_decode: Final = struct_decoder(_Record)


def answer_to_json(key: str, answer: CachedAnswer) -> str:
    """Returns the document for the entry `key` of a shared cache. Raises `ValueError` if the body
    is not UTF-8."""
    record = _Record(3, key, _with_body(answer, b""), answer.body.decode())
    return encode_struct(record).decode()


def answer_from_json(key: str, text: str) -> CachedAnswer:
    """Returns the answer in a document that `answer_to_json` wrote. Raises `ValueError` if the text
    is malformed, from another release, or belongs to another key."""
    record = _decode(text)
    if record.key != key:
        raise ValueError("the entry belongs to another key")
    return _with_body(record.answer, record.body.encode())


def _with_body(answer: CachedAnswer, body: bytes) -> CachedAnswer:
    return replace(answer, body=body)
