"""The details of a vendor's error and of the request it answered, by which errors are classified.

What follows from them is in `formats.error_attribution`; the errors themselves are in `errors`.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from msgspec import Struct, field


class Basis(Enum):
    """The evidence for the kind of a failure. STATUS and CODE come from the vendor alone; MESSAGE
    is a text that may repeat input of the caller."""

    STATUS = "status"
    CODE = "code"
    MESSAGE = "message"


class VendorDetails(Struct, frozen=True):
    """A failure as its vendor describes it.

    `format` is the wire format that `type`, `code` and `param` belong to. `reason` is the vendor's
    message, cut but not masked: it is for judging alone and never shown. `phrase` holds the words
    of it that told the kind of failure, in lower case. `unsupported` names what Anthropic's threads
    do not support in the request.
    """

    format: str
    status: int
    basis: Basis
    type: str = ""
    code: str = ""
    param: str = ""
    reason: str = ""
    phrase: str = ""
    unsupported: tuple[str, ...] = ()


class SentRequest(Struct, frozen=True):
    """The request that a vendor received. `is_relayed`: the body is the caller's own; otherwise the
    gateway wrote it. `asked` is the caller's body, empty for a call in process."""

    model_id: str
    body: bytes
    is_relayed: bool = False
    asked: Mapping[str, Any] = field(default_factory=dict)
