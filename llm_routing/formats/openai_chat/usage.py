"""Reads and writes the `usage` of OpenAI Chat Completions, and reads what vendors bill.

Sources: https://platform.openai.com/docs/api-reference/chat/object,
https://openrouter.ai/docs/use-cases/usage-accounting, https://docs.x.ai/developers/cost-tracking,
https://docs.litellm.ai/docs/completion/prompt_caching
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, TypeGuard

from msgspec import Raw, Struct, field

from llm_routing.core.codec import struct_decoder
from llm_routing.core.types import Usage
from llm_routing.formats.usage import counts_in

# Most answers count nothing else, and need not be searched for it.
_COMMON: Final = frozenset(
    (
        *("prompt_tokens", "completion_tokens", "total_tokens"),
        *("prompt_tokens_details", "completion_tokens_details"),
    )
)
_XAI_TICKS: Final = Decimal(10_000_000_000)
_AMOUNT: Final = re.compile(rb'"?([0-9]{1,20}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,2})?)"?')


def has_token_counts(usage: Any) -> TypeGuard[Mapping[str, Any]]:
    """Returns whether a `usage` object counts any tokens."""
    return isinstance(usage, dict) and ("prompt_tokens" in usage or "total_tokens" in usage)


def read_usage(usage: Any, vendor_cost: Decimal | None = None) -> Usage | None:
    """Returns the tokens of a repaired `usage` object, or None if there is none.

    If the total exceeds prompt and completion, the rest is output: some vendors (xAI, Gemini) leave
    reasoning out of `completion_tokens` and bill it. Portkey leaves cached tokens out of
    `prompt_tokens` and counts them in the total.
    """
    if not has_token_counts(usage):
        return None
    counts = counts_in(usage)
    prompt = counts_in(usage.get("prompt_tokens_details"))
    completion = counts_in(usage.get("completion_tokens_details"))
    input_tokens = counts.get("prompt_tokens", 0)
    output_tokens = counts.get("completion_tokens", 0)
    total = counts.get("total_tokens", 0)
    if not prompt and not completion and _COMMON.issuperset(usage):
        return Usage(
            input_tokens=input_tokens,
            output_tokens=max(output_tokens, total - input_tokens),
            vendor_cost=vendor_cost,
        )
    # DeepSeek, Moonshot and gateways in front of Anthropic use names of their own.
    cached = (
        prompt.get("cached_tokens")
        or counts.get("prompt_cache_hit_tokens")
        or counts.get("cached_tokens")
        or counts.get("cache_read_input_tokens", 0)
    )
    written = (
        prompt.get("cache_write_tokens")
        or prompt.get("cache_creation_tokens")
        or prompt.get("cache_creation_input_tokens")
        or counts.get("cache_creation_input_tokens")
        or counts.get("cache_write_input_tokens", 0)
    )
    if written + cached and total == input_tokens + output_tokens + cached + written:
        input_tokens += cached + written
    cached = min(cached, input_tokens)
    written = min(written, input_tokens - cached)
    output_tokens = max(output_tokens, total - input_tokens)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=min(completion.get("reasoning_tokens", 0), output_tokens),
        cache_write_1h_tokens=min(_written_for_an_hour(usage), written),
        input_audio_tokens=min(prompt.get("audio_tokens", 0), input_tokens),
        output_audio_tokens=min(completion.get("audio_tokens", 0), output_tokens),
        accepted_prediction_tokens=completion.get("accepted_prediction_tokens", 0),
        rejected_prediction_tokens=completion.get("rejected_prediction_tokens", 0),
        web_searches=counts_in(usage.get("server_tool_use")).get("web_search_requests", 0),
        vendor_cost=vendor_cost,
    )


def _written_for_an_hour(usage: Mapping[str, Any]) -> int:
    """Reads Anthropic's split of cache writes: LiteLLM moves it into the details, other gateways
    pass it on."""
    prompt = usage.get("prompt_tokens_details")
    details = prompt.get("cache_creation_token_details") if isinstance(prompt, dict) else None
    name = "ephemeral_1h_input_tokens"
    return counts_in(details).get(name) or counts_in(usage.get("cache_creation")).get(name, 0)


class _Bill(Struct, frozen=True):
    cost: Raw = field(default_factory=Raw)
    cost_details: Raw = field(default_factory=Raw)
    is_byok: Raw = field(default_factory=Raw)
    cost_in_usd_ticks: Raw = field(default_factory=Raw)


class _Answer(Struct, frozen=True):
    usage: _Bill


class _CostDetails(Struct, frozen=True):
    upstream_inference_cost: Raw = field(default_factory=Raw)


_read_answer: Final = struct_decoder(_Answer)
_read_details: Final = struct_decoder(_CostDetails)


def read_vendor_cost(usage: Any, body: bytes) -> Decimal | None:
    """Returns what the vendor bills for an answer, in USD, from the digits in its `body`; None if
    `usage` does not say.

    OpenRouter's `cost` is its own charge; for a request with the customer's own key (`is_byok`) the
    provider's charge is added. xAI counts in ticks.
    """
    if not isinstance(usage, dict) or not ("cost" in usage or "cost_in_usd_ticks" in usage):
        return None
    try:
        bill = _read_answer(body).usage
    except ValueError:
        return None
    ticks = _amount(bill.cost_in_usd_ticks)
    if ticks is not None:
        return ticks / _XAI_TICKS
    charged = _amount(bill.cost)
    if charged is None or bytes(bill.is_byok) == b"false":
        return charged
    try:
        behind = _amount(_read_details(bytes(bill.cost_details)).upstream_inference_cost)
    except ValueError:
        behind = None
    return charged + (behind or 0)


def _amount(text: Raw) -> Decimal | None:
    match = _AMOUNT.fullmatch(bytes(text))
    return None if match is None else Decimal(match[1].decode())


def write_usage(usage: Usage) -> dict[str, Any]:
    """Returns a `usage` object. `prompt_tokens` includes the tokens read from and written to the
    vendor's cache; writes are given under the names of OpenAI, OpenRouter and LiteLLM."""
    prompt: dict[str, Any] = {
        "cached_tokens": usage.cached_input_tokens,
        "audio_tokens": usage.input_audio_tokens,
    }
    written: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
            "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            "rejected_prediction_tokens": usage.rejected_prediction_tokens,
        },
    }
    if usage.cache_write_tokens:
        prompt["cache_write_tokens"] = usage.cache_write_tokens
        written["cache_creation_input_tokens"] = usage.cache_write_tokens
        written["cache_read_input_tokens"] = usage.cached_input_tokens
    if usage.web_searches:
        written["server_tool_use"] = {"web_search_requests": usage.web_searches}
    return written
