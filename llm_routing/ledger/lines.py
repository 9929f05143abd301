"""The lines of the ledger: an attempt as JSON after `O` (opened) or `S` (settled).

Files of lines are in `segments`.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from llm_routing.core.codec import decode, encode, encode_struct, struct_decoder
from llm_routing.core.ports import AttemptOpened, AttemptSettled
from llm_routing.core.pricing import Price, cost
from llm_routing.core.types import MAX_TOKEN_COUNT, AttemptOutcome, CostSource, Usage

OPENED: Final = b"O"
_SETTLED: Final = b"S"

_read_opened: Final = struct_decoder(AttemptOpened)
_read_settled: Final = struct_decoder(AttemptSettled)


def opened_line(attempt: AttemptOpened) -> bytes:
    """Returns the line of an attempt that is about to call a provider."""
    return OPENED + encode_struct(attempt) + b"\n"


def settled_line(attempt: AttemptSettled) -> bytes:
    """Returns the line of an attempt that has ended."""
    return _SETTLED + encode_struct(attempt) + b"\n"


def read(line: bytes) -> AttemptOpened | AttemptSettled:
    """Returns the attempt of a line. A field that an earlier version did not write has its default.
    Raises `ValueError`."""
    # The file contains zero bytes if another program has truncated it.
    line = line.lstrip(b"\0")
    match line[:1]:
        case b"S":
            return _read_settled(line[1:])
        case b"O":
            try:
                return _read_opened(line[1:])
            except ValueError:
                return _read_opened(_without_price(line[1:]))
        case _:
            raise ValueError("not a line of the ledger")


def _without_price(text: bytes) -> bytes:
    """Returns the JSON without the price: if only that is damaged, the attempt still counts."""
    value = decode(text)
    if isinstance(value, dict):
        value.pop("input_price", None)
    return encode(value)


def interrupted(opened: AttemptOpened) -> AttemptSettled:
    """Returns the end of an attempt whose process ended first. The provider has the prompt and may
    bill it; the tokens of its answer are not known."""
    usage = Usage(opened.input_tokens, 0, estimated=True)
    spent, price = None, opened.input_price
    # The line may be damaged.
    if price is not None and price.is_finite():
        with suppress(ArithmeticError):
            spent = cost(usage, Price(price))
    return AttemptSettled(
        opened=opened,
        outcome=AttemptOutcome.INTERRUPTED,
        error_code="interrupted",
        status=None,
        usage=usage,
        cost=spent,
        latency_ms=0.0,
        time_to_first_token_ms=None,
        cost_source=None if spent is None else CostSource.ESTIMATED,
    )


def columns(attempt: AttemptSettled) -> Mapping[str, Any]:
    """Returns the `models.UsageRecord` row of an attempt that has ended. Raises `ValueError`."""
    opened, spent = attempt.opened, attempt.cost
    caller, usage = opened.caller, attempt.usage or _NOTHING
    if spent is not None and not spent.is_finite():
        raise ValueError("cost is not finite")
    if opened.started_at.tzinfo is None:
        raise ValueError("timestamp has no time zone")
    return {
        "attempt_id": opened.id,
        "request_id": opened.request_id,
        "tenant": caller.tenant,
        "api_key_name": caller.key_name,
        "operation": opened.operation,
        "use_case": opened.use_case,
        "tier": opened.tier,
        "provider": opened.provider,
        "model": opened.model,
        "attempt": opened.number,
        "outcome": attempt.outcome.value,
        "error_code": attempt.error_code,
        "status": attempt.status,
        "input_tokens": _tokens(usage.input_tokens),
        "output_tokens": _tokens(usage.output_tokens),
        "cached_input_tokens": _tokens(usage.cached_input_tokens),
        "cache_write_tokens": _tokens(usage.cache_write_tokens),
        "cache_write_1h_tokens": _tokens(usage.cache_write_1h_tokens),
        "reasoning_tokens": _tokens(usage.reasoning_tokens),
        "web_searches": _tokens(usage.web_searches),
        "is_estimated": usage.estimated,
        "cost": spent,
        "cost_source": attempt.cost_source.value if attempt.cost_source else "",
        "latency_ms": attempt.latency_ms,
        "time_to_first_token_ms": attempt.time_to_first_token_ms,
        "started_at": opened.started_at,
        "upstream_request_id": attempt.upstream_request_id,
        "error_message": attempt.error_message,
    }


_NOTHING: Final = Usage()


def _tokens(count: int) -> int:
    """Returns a vendor's count, limited to the range of the column."""
    return count if 0 <= count <= MAX_TOKEN_COUNT else min(max(count, 0), MAX_TOKEN_COUNT)
