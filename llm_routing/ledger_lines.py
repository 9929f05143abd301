"""How the ledger writes an attempt down, and reads it again: a line of JSON, `O` or `S` before it.

Where lines are kept, and when they are shipped, is in `ledger`.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from .core.codec import decode, encode
from .core.ports import AttemptOpened, AttemptSettled
from .core.pricing import Price, cost
from .core.types import MOST_TOKENS, AttemptOutcome, Usage

OPENED: Final = b"O"
SETTLED: Final = b"S"

Record = Mapping[str, Any]
"""What a line says, by the names of `AttemptOpened` and `AttemptSettled`."""


def opened_json(attempt: AttemptOpened) -> bytes:
    """An attempt that is about to reach a provider."""
    return encode(
        {
            "id": attempt.id,
            "request_id": attempt.request_id,
            "caller": {"tenant": attempt.caller.tenant, "key_name": attempt.caller.key_name},
            "operation": attempt.operation,
            "use_case": attempt.use_case,
            "tier": attempt.tier,
            "provider": attempt.provider,
            "model": attempt.model,
            "number": attempt.number,
            "started_at": attempt.started_at,
            "input_tokens": attempt.input_tokens,
            "input_price": attempt.input_price,
        }
    )


def settled_json(attempt: AttemptSettled, opened: bytes) -> bytes:
    """An attempt that has ended; `opened` is its `opened_json`."""
    usage = attempt.usage
    end = encode(
        {
            "outcome": attempt.outcome.value,
            "error_code": attempt.error_code,
            "status": attempt.status,
            "usage": None
            if usage is None
            else {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cached_input_tokens": usage.cached_input_tokens,
                "reasoning_tokens": usage.reasoning_tokens,
                "estimated": usage.estimated,
            },
            "cost": attempt.cost,
            "latency_ms": attempt.latency_ms,
            "time_to_first_token_ms": attempt.time_to_first_token_ms,
        }
    )
    return b'{"opened":' + opened + b"," + end[1:]


def interrupted(opened: Record) -> Record:
    """The end of an attempt whose process died before it. The provider has its prompt, and may bill
    it; what it said nobody has counted."""
    tokens = opened.get("input_tokens", 0)
    spent: Decimal | None = None
    # An earlier version wrote no price.
    with suppress(KeyError, TypeError, ValueError, ArithmeticError):
        price = opened["input_price"]
        spent = cost(Usage(tokens, 0), Price(Decimal(price), Decimal(0)))
    return {
        "opened": opened,
        "outcome": AttemptOutcome.INTERRUPTED.value,
        "error_code": "interrupted",
        "status": None,
        "usage": {"input_tokens": tokens, "estimated": True},
        "cost": spent,
        "latency_ms": 0.0,
        "time_to_first_token_ms": None,
    }


def read(line: bytes) -> tuple[bytes, Record]:
    """Which of the two a line is, and what it says. Raises `ValueError` for what is none."""
    kind, record = line[:1], decode(line[1:])
    try:
        opened = record["opened"] if kind == SETTLED else record
        if kind in (OPENED, SETTLED) and isinstance(opened["id"], str):
            return kind, record
    except (KeyError, TypeError):
        pass
    raise ValueError("this is no line of the ledger")


def columns(record: Record) -> Mapping[str, Any]:
    """The row of `models.UsageRecord` for an attempt that has ended. Raises `ValueError`."""
    try:
        opened, usage, spent = record["opened"], record["usage"] or {}, record["cost"]
        caller = opened["caller"]
        return {
            "attempt_id": opened["id"],
            "request_id": opened["request_id"],
            "tenant": caller["tenant"],
            "api_key_name": caller["key_name"],
            "operation": opened["operation"],
            "use_case": opened["use_case"],
            "tier": opened["tier"],
            "provider": opened["provider"],
            "model": opened["model"],
            "attempt": opened["number"],
            "outcome": record["outcome"],
            "error_code": record["error_code"],
            "status": record["status"],
            "input_tokens": _tokens(usage.get("input_tokens", 0)),
            "output_tokens": _tokens(usage.get("output_tokens", 0)),
            "cached_input_tokens": _tokens(usage.get("cached_input_tokens", 0)),
            "reasoning_tokens": _tokens(usage.get("reasoning_tokens", 0)),
            "is_estimated": usage.get("estimated", False),
            "cost": None if spent is None else _dollars(spent),
            "latency_ms": record["latency_ms"],
            "time_to_first_token_ms": record["time_to_first_token_ms"],
            "started_at": datetime.fromisoformat(opened["started_at"]),
        }
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError("this is no record of an attempt") from error


_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    **dict.fromkeys(("attempt", "input_tokens", "output_tokens"), int),
    **dict.fromkeys(("cached_input_tokens", "reasoning_tokens"), int),
    "is_estimated": bool,
    "status": (int, type(None)),
    "cost": (Decimal, type(None)),
    "latency_ms": (int, float),
    "time_to_first_token_ms": (int, float, type(None)),
    "started_at": datetime,
}
"""What is in a column; a text where nothing is said."""


def is_sound(row: Mapping[str, Any]) -> bool:
    """Whether each of the `columns` holds what it is for."""
    return all(isinstance(value, _KINDS.get(name, str)) for name, value in row.items())


def _dollars(spent: str) -> Decimal:
    cost = Decimal(spent)
    if not cost.is_finite():
        raise ValueError("this costs no amount of money")
    return cost


def _tokens(count: int) -> int:
    """A vendor's number, as far as the column goes."""
    return min(max(count, 0), MOST_TOKENS)
