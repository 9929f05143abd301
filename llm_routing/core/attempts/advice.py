"""Advice for operators about failures that a setting or a command can fix."""

from collections.abc import Iterable

from llm_routing.core.errors import (
    AddressForbidden,
    BreakerOpen,
    ConnectionFailed,
    ConnectTimeout,
    UpstreamError,
)
from llm_routing.core.quirks import Quirks
from llm_routing.core.routing_table import Target

FORBIDDEN_ADDRESS = (
    "The gateway's settings do not allow the provider's address: add its network to "
    "LLM_ALLOWED_UPSTREAM_NETWORKS."
)
UNREACHABLE = frozenset((ConnectionFailed.code, ConnectTimeout.code))
"""Codes of failures to connect, which a vendor's hint may end."""


def connection_advice(error: UpstreamError, quirks: Quirks) -> str:
    """Returns the vendor's hint for an error without a connection; empty for other errors."""
    code = error.cause if isinstance(error, BreakerOpen) else error.code
    return quirks.unreachable_hint if code in UNREACHABLE else ""


def advice(errors: Iterable[UpstreamError], targets: Iterable[Target]) -> str:
    """Returns advice for a request that failed with these errors at some of the targets, preceded
    by a space; empty if there is none."""
    found: dict[str, None] = {}
    for error in errors:
        if isinstance(error, AddressForbidden):
            found[FORBIDDEN_ADDRESS] = None
        for target in targets:
            if hint := connection_advice(error, target.provider.quirks):
                found[hint] = None
    return "".join(f" {sentence}" for sentence in found)
