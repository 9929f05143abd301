"""Every metric: its name, kind, labels and help text. docs/metrics.md has the same rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "llm_routing_"
OTHER = "other"
"""The label of names beyond the limit."""


class Kind(StrEnum):
    """The meaning of a value, and how the values of several processes are combined."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `unit` is the base unit in its name; `buckets` are upper bounds, without +Inf."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Numbers per series: a histogram has one for each bucket, one for +Inf, and the sum."""
        return len(self.buckets) + 2 if self.kind is Kind.HISTOGRAM else 1


_DURATION = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_FIRST_TOKEN = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60)
_OVERHEAD = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_ROUTE = ("operation", "use_case", "tier")
_TARGET = ("provider", "model")
_LIMIT = ("where", "provider")


def _counter(name: str, help_text: str, *labels: str, unit: str = "") -> Family:
    return Family(f"{PREFIX}{name}_total", Kind.COUNTER, help_text, labels, unit)


def _gauge(name: str, help_text: str, *labels: str, unit: str = "") -> Family:
    return Family(PREFIX + name, Kind.GAUGE, help_text, labels, unit)


def _seconds(
    name: str, help_text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
) -> Family:
    return Family(f"{PREFIX}{name}_seconds", Kind.HISTOGRAM, help_text, labels, "seconds", buckets)


REQUESTS = _counter("requests", "Requests that ended.", *_ROUTE, "outcome")
ERRORS = _counter("errors", "Requests that failed, by the error's code.", "code")
REQUEST_DURATION = _seconds(
    "request_duration", "Seconds from the request to the end of its response.", _ROUTE, _DURATION
)
OVERHEAD = _seconds(
    "overhead",
    "Seconds spent in the gateway itself, up to the head of the response.",
    ("operation",),
    _OVERHEAD,
)
REQUESTS_IN_PROGRESS = _gauge("requests_in_progress", "Requests in progress.")
QUEUED = _gauge(
    "queued_requests",
    "Requests waiting for the limit of the process or of a provider.",
    *_LIMIT,
)
SHED = _counter(
    "shed",
    "Requests rejected because the limit was reached and the queue full or too slow.",
    *_LIMIT,
)
CACHE_REQUESTS = _counter("cache_requests", "Responses by how the cache was involved.", "state")
CACHE_ENTRIES = _gauge("cache_entries", "Cached responses in memory.")
CACHE_BYTES = _gauge("cache_bytes", "Memory used by cached responses.", unit="bytes")
CACHE_EVICTIONS = _counter("cache_evictions", "Cached responses evicted to make room for others.")
FALLBACKS = _counter(
    "fallbacks", "Times a request failed over from this target to the next one.", *_TARGET
)
ATTEMPTS = _counter("attempts", "Calls to a target that ended.", *_TARGET, "outcome")
ATTEMPT_ERRORS = _counter(
    "attempt_errors", "Calls to a provider that failed, by the error's code.", "provider", "code"
)
ATTEMPT_DURATION = _seconds(
    "attempt_duration",
    "Seconds from the call to a target to the end of its response.",
    _TARGET,
    _DURATION,
)
ATTEMPTS_IN_PROGRESS = _gauge(
    "attempts_in_progress",
    "Calls to a target in progress.",
    *_TARGET,
)
TIME_TO_FIRST_TOKEN = _seconds(
    "time_to_first_token",
    "Seconds from the call to a target to its first content; streams only.",
    _TARGET,
    _FIRST_TOKEN,
)
TOKENS = _counter(
    "tokens",
    "Tokens; cached_input and cache_write are parts of input, cache_write_1h of cache_write, "
    "reasoning of output.",
    *_TARGET,
    "kind",
)
COST = _counter("cost_usd", "US dollars, rounded as floats are; the ledger is exact.", *_TARGET)
BREAKER_STATE = _gauge(
    "breaker_state",
    "Processes whose circuit breaker for the target is in this state.",
    *_TARGET,
    "state",
)
BREAKER_OPENINGS = _counter("breaker_openings", "Times a circuit breaker opened.", *_TARGET)
CREDENTIAL_OUT = _gauge(
    "credential_out",
    "Processes that do not use the provider's credential because it failed.",
    "provider",
)
REFUSED_KEYS = _counter("refused_keys", "API keys that were refused, by reason.", "reason")
LEDGER_BACKLOG = _gauge(
    "ledger_backlog_bytes",
    "Bytes of usage records on disk that are not in the database yet.",
    unit="bytes",
)
LEDGER_UNWRITTEN = _gauge("ledger_unwritten_records", "Usage records that are only in memory.")
LEDGER_SET_ASIDE = _counter(
    "ledger_set_aside", "Usage records that the database refused, kept in a file."
)
LEDGER_FAILING = _gauge("ledger_failing", "1 while the database takes no usage records, else 0.")
LEDGER_LOST = _counter(
    "ledger_lost", "Usage records lost because neither disk nor database took them."
)
REDIS_MISSED = _counter(
    "redis_calls_missed",
    "Calls to Redis that failed, by reason, or were skipped after a failure.",
    "reason",
)
REDIS_PAUSED = _gauge(
    "redis_paused", "Processes that do not call Redis for a while after a failure."
)
REDIS_REFUSED = _counter(
    "redis_values_refused", "Values in Redis under this gateway's keys that it did not write."
)
PROCESSES = _gauge("processes", "Running processes that share these metrics.")

FAMILIES: Mapping[str, Family] = {
    family.name: family for family in tuple(globals().values()) if isinstance(family, Family)
}
"""Every metric above by its name."""
