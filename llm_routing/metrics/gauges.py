"""Sampled numbers, which other objects of the process keep."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from llm_routing.core.attempts.limits import LimitStatus
from llm_routing.core.breaker import BreakerStatus
from llm_routing.core.types import TargetKey


@dataclass(frozen=True, slots=True)
class ProcessGauges:
    """Numbers that other objects of this process keep, at one moment.

    `evictions` are by cache; `limits` by place (`process` or `provider`), the provider's name, and
    the id of the router that has the limit.
    """

    cache_entries: int = 0
    cache_bytes: int = 0
    evictions: Mapping[int, int] = field(default_factory=dict)
    limits: Mapping[tuple[str, str, int], LimitStatus] = field(default_factory=dict)
    breakers: Mapping[TargetKey, BreakerStatus] = field(default_factory=dict)
    credentials_out: Collection[str] = ()
    refused_keys: Mapping[str, int] = field(default_factory=dict)
    ledger_backlog_bytes: int = 0
    ledger_unwritten: int = 0
    ledger_lost: int = 0
    ledger_set_aside: int = 0
    ledger_is_failing: bool = False
    redis_missed: Mapping[str, int] = field(default_factory=dict)
    redis_is_paused: bool = False
    redis_forged: int = 0
