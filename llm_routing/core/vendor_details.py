"""The details of a vendor's error and of the request that caused it.

`formats.error_attribution` classifies errors by them; the errors themselves are in `errors`.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from msgspec import Struct, field


class Basis(Enum):
    """The evidence for the kind of a failure. STATUS and CODE come from the vendor alone; MESSAGE
    is text that may repeat the caller's input."""

    STATUS = "status"
    CODE = "code"
    MESSAGE = "message"


class VendorDetails(Struct, frozen=True):
    """A failure as described by the vendor.

    `format` is the wire format that `type`, `code` and `param` belong to. `reason` is the vendor's
    message, cut but not masked: it is used for classification and never shown. `phrase` is the part
    of it that identified the kind of failure, in lower case. `unsupported` names the parts of the
    request that Anthropic's threads do not support.
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
    gateway wrote it. `caller_body` is the caller's body, empty for in-process calls."""

    model_id: str
    body: bytes
    is_relayed: bool = False
    caller_body: Mapping[str, Any] = field(default_factory=dict)
