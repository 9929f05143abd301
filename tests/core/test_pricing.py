"""Money is exact."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.pricing import Price, cost, estimate_tokens
from llm_routing.core.types import Usage

TOKENS = st.integers(0, 10**9)
USD = st.decimals(0, 10_000, places=10)


@given(TOKENS, TOKENS, TOKENS, USD, USD, st.none() | USD)
def test_a_cost_is_exact(
    fresh: int, cached: int, out: int, given_: Decimal, made: Decimal, cached_price: Decimal | None
) -> None:
    usage = Usage(fresh + cached, out, cached_input_tokens=cached)
    expected = (
        fresh * Fraction(given_)
        + cached * Fraction(given_ if cached_price is None else cached_price)
        + out * Fraction(made)
    ) / 1_000_000
    assert Fraction(cost(usage, Price(given_, made, cached_price))) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(), "0"),
        (Usage(1_000_000, 0), "3"),
        (Usage(0, 1_000_000), "15"),
        (Usage(1000, 10, cached_input_tokens=400), "0.00207"),
        # Reasoning tokens are output already, written cache is input already.
        (Usage(1000, 10, reasoning_tokens=9, cache_write_tokens=900), "0.00315"),
        # A vendor that counts cached tokens beside the input does not earn a negative price.
        (Usage(100, 0, cached_input_tokens=400), "0.00012"),
    ],
)
def test_what_counts(usage: Usage, expected: str) -> None:
    assert cost(usage, Price(Decimal(3), Decimal(15), Decimal("0.3"))) == Decimal(expected)


def test_a_cached_price_of_zero_is_a_price() -> None:
    usage = Usage(100, 0, cached_input_tokens=100)
    assert cost(usage, Price(Decimal(3), Decimal(15), Decimal(0))) == 0


@pytest.mark.parametrize(("length", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (400, 100)])
def test_four_characters_are_a_token_by_estimate(length: int, tokens: int) -> None:
    assert estimate_tokens(length) == tokens
