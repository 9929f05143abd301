"""What an answer costs: `Usage` times price, in Decimal USD.

Where prices come from is the business of set-up and of the operator.
"""

from dataclasses import dataclass
from decimal import Decimal

from .types import Usage

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. Without a price of their own, cached tokens cost as input does."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None


def cost(usage: Usage, price: Price) -> Decimal:
    """What `usage` costs, in USD, exactly; rounding is left to whoever shows it."""
    cached = usage.cached_input_tokens
    spent = max(usage.input_tokens - cached, 0) * price.input
    if cached:
        spent += cached * (price.input if price.cached_input is None else price.cached_input)
    return (spent + usage.output_tokens * price.output) / _MILLION


def estimate_tokens(text_length: int) -> int:
    """A guess at the tokens of `text_length` characters, for vendors that count none: four
    characters a token, rounded up, as OpenAI's rule of thumb has it."""
    return -(-text_length // 4)
