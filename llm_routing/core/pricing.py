"""The cost of an answer in Decimal USD: the vendor's own bill, or `Usage` times the price list.

Set-up and operators fill the price list; this module only computes.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from .types import CostSource, Usage

MAX_VENDOR_COST: Final = Decimal(1000)
"""USD. Higher amounts from a vendor are treated as errors and ignored."""

_ZERO: Final = Decimal(0)
_MILLION: Final = Decimal(1_000_000)
_THOUSAND: Final = Decimal(1000)
_WRITE_FACTOR: Final = Decimal("1.25")
_WRITE_1H_FACTOR: Final = Decimal(2)


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens, and per thousand web searches; None: unknown.

    Cached tokens without a price cost as much as other input. Tokens written to the vendor's cache
    then cost 1.25 times the input price, or twice the input price if they are kept for an hour.
    These are the highest factors of any vendor, so a missing price never makes the cost too low.
    """

    input: Decimal | None = None
    output: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    web_search: Decimal | None = None

    @property
    def is_known(self) -> bool:
        """Whether some answers can be priced."""
        return self.input is not None or self.output is not None


_UNKNOWN: Final = Price()


def charge(
    usage: Usage, price: Price | None, *, trusts_vendor: bool
) -> tuple[Decimal | None, CostSource | None]:
    """Returns the cost of an attempt and its source; both are None if unknown."""
    billed = usage.vendor_cost
    if billed is not None and trusts_vendor and 0 <= billed <= MAX_VENDOR_COST:
        return billed, CostSource.VENDOR
    spent = cost(usage, price or _UNKNOWN)
    if spent is None:
        return None, None
    return spent, CostSource.ESTIMATED if usage.estimated else CostSource.PRICE_LIST


def cost(usage: Usage, price: Price) -> Decimal | None:
    """Returns the exact, unrounded cost of `usage` by the price list; None if a price is
    missing."""
    spent = _ZERO
    if usage.input_tokens:
        if price.input is None:
            return None
        spent = _input_cost(usage, price, price.input)
    if usage.output_tokens:
        if price.output is None:
            return None
        spent += usage.output_tokens * price.output
    spent /= _MILLION
    if usage.web_searches:
        if price.web_search is None:
            return None
        spent += usage.web_searches * price.web_search / _THOUSAND
    return spent


def _input_cost(usage: Usage, price: Price, full: Decimal) -> Decimal:
    """Returns the cost of the prompt, times a million."""
    cached, written = usage.cached_input_tokens, usage.cache_write_tokens
    spent = max(usage.input_tokens - cached - written, 0) * full
    if cached:
        spent += cached * (full if price.cached_input is None else price.cached_input)
    if written:
        short = full * _WRITE_FACTOR if price.cache_write is None else price.cache_write
        spent += (written - usage.cache_write_1h_tokens) * short
        if usage.cache_write_1h_tokens:
            hour = price.cache_write_1h
            if hour is None:
                hour = max(full * _WRITE_1H_FACTOR, short)
            spent += usage.cache_write_1h_tokens * hour
    return spent


def estimate_tokens(text_length: int) -> int:
    """Returns an estimate of the tokens in `text_length` characters: four characters per token,
    rounded up, which is OpenAI's rule of thumb."""
    return -(-text_length // 4)
