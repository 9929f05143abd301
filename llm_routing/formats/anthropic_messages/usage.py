"""Reads and writes the `usage` of Anthropic Messages.

Sources: https://platform.claude.com/docs/en/api/messages,
https://platform.claude.com/docs/en/build-with-claude/streaming,
https://platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

from collections.abc import Mapping
from typing import Any, Final

from llm_routing.core.types import Usage
from llm_routing.formats.lenient import objects_of
from llm_routing.formats.usage import read_count

Counts = Mapping[str, int]
"""The wire's counts by name, those of nested objects by their path."""

_INPUT: Final = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "cache_creation.ephemeral_5m_input_tokens",
    "cache_creation.ephemeral_1h_input_tokens",
)
_OUTPUT: Final = (
    "output_tokens",
    "output_tokens_details.thinking_tokens",
    "server_tool_use.web_search_requests",
)
# Iterations that the counts at the top leave out:
# https://platform.claude.com/docs/en/build-with-claude/compaction
_BESIDE: Final = frozenset({"compaction", "advisor_message"})


def merged_counts(counts: Counts, usage: Any) -> Counts:
    """Returns the counts after one more report. Counts are cumulative, and a later one corrects an
    earlier one. A report may leave out counts that have not changed, or write zeros for them."""
    if not isinstance(usage, dict):
        return counts
    merged = dict(counts)
    for names in (_INPUT, _OUTPUT):
        found = {name: count for name in names if (count := _count(usage, name)) is not None}
        if not merged or any(found.values()):
            merged.update(found)
    beside = [each for each in objects_of(usage.get("iterations")) if each.get("type") in _BESIDE]
    if beside:
        for name in (*_INPUT, *_OUTPUT):
            merged[f"beside.{name}"] = sum(_count(each, name) or 0 for each in beside)
    return merged


def counts_output(usage: Any) -> bool:
    """Returns whether a report counts the answer."""
    return isinstance(usage, dict) and bool(_count(usage, "output_tokens"))


def _count(usage: Mapping[str, Any], path: str) -> int | None:
    owner, _, name = path.rpartition(".")
    counts = usage.get(owner) if owner else usage
    return read_count(counts.get(name)) if isinstance(counts, dict) else None


def read_usage(counts: Counts) -> Usage | None:
    """Returns the usage for the wire's counts, whose `input_tokens` exclude cached tokens; None if
    there are none."""
    if not counts:
        return None

    def total(name: str) -> int:
        return counts.get(name, 0) + counts.get(f"beside.{name}", 0)

    cached = total("cache_read_input_tokens")
    hour = total("cache_creation.ephemeral_1h_input_tokens")
    short = total("cache_creation.ephemeral_5m_input_tokens")
    written = total("cache_creation_input_tokens") or short + hour
    output_tokens = total("output_tokens")
    return Usage(
        input_tokens=total("input_tokens") + cached + written,
        output_tokens=output_tokens,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=min(total("output_tokens_details.thinking_tokens"), output_tokens),
        cache_write_1h_tokens=min(hour, written),
        web_searches=total("server_tool_use.web_search_requests"),
    )


def write_usage(usage: Usage | None) -> dict[str, Any]:
    """Returns the usage as the wire counts it, with zeros for unknown counts: callers expect
    numbers."""
    usage = usage or Usage()
    through_cache = usage.cached_input_tokens + usage.cache_write_tokens
    written: dict[str, Any] = {
        "input_tokens": max(usage.input_tokens - through_cache, 0),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.cache_write_tokens:
        hour = usage.cache_write_1h_tokens
        written["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - hour,
            "ephemeral_1h_input_tokens": hour,
        }
    if usage.reasoning_tokens:
        written["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    if usage.web_searches:
        written["server_tool_use"] = {"web_search_requests": usage.web_searches}
    return written
