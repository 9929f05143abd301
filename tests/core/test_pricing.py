"""Costs are exact."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.pricing import MAX_VENDOR_COST, Price, charge, cost, estimate_tokens
from llm_routing.core.types import CostSource, Usage

TOKENS = st.integers(0, 10**9)
USD = st.decimals(0, 10_000, places=6)
THREE = Price(Decimal(3), Decimal(15), Decimal("0.3"))


@given(TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, USD, USD, *[st.none() | USD] * 3)
def test_a_cost_is_exact(
    fresh: int,
    cached: int,
    short: int,
    hour: int,
    out: int,
    given_: Decimal,
    made: Decimal,
    cached_price: Decimal | None,
    short_price: Decimal | None,
    hour_price: Decimal | None,
) -> None:
    usage = Usage(
        fresh + cached + short + hour,
        out,
        cached_input_tokens=cached,
        cache_write_tokens=short + hour,
        cache_write_1h_tokens=hour,
    )
    full = Fraction(given_)
    written = full * 5 / 4 if short_price is None else Fraction(short_price)
    expected = (
        fresh * full
        + cached * (full if cached_price is None else Fraction(cached_price))
        + short * written
        + hour * (max(2 * full, written) if hour_price is None else Fraction(hour_price))
        + out * Fraction(made)
    ) / 1_000_000
    found = cost(usage, Price(given_, made, cached_price, short_price, hour_price))
    assert found is not None
    assert Fraction(found) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(), "0"),
        (Usage(1_000_000, 0), "3"),
        (Usage(0, 1_000_000), "15"),
        (Usage(1000, 10, cached_input_tokens=400), "0.00207"),
        # Reasoning, audio and predicted tokens are included in the output.
        (
            Usage(
                1000,
                10,
                reasoning_tokens=9,
                input_audio_tokens=900,
                output_audio_tokens=9,
                accepted_prediction_tokens=4,
                rejected_prediction_tokens=5,
            ),
            "0.00315",
        ),
        # Anthropic's 12 304 written tokens of a prompt of 12 307, at 1.25 times the input price.
        (Usage(12_307, 550, cache_write_tokens=12_304), "0.054399"),
        (Usage(12_307, 550, cache_write_tokens=12_304, cache_write_1h_tokens=12_304), "0.082083"),
        # Cached tokens that the vendor counts beside the input do not make the price negative.
        (Usage(100, 0, cached_input_tokens=400), "0.00012"),
    ],
)
def test_each_kind_of_tokens_has_its_price(usage: Usage, expected: str) -> None:
    assert cost(usage, THREE) == Decimal(expected)


def test_a_cached_price_of_zero_is_a_price() -> None:
    usage = Usage(100, 0, cached_input_tokens=100)
    assert cost(usage, Price(Decimal(3), Decimal(15), Decimal(0))) == 0


@pytest.mark.parametrize(
    ("usage", "price", "expected"),
    [
        # Embeddings have no output and need no output price.
        (Usage(1_000_000), Price(Decimal("0.02")), "0.02"),
        (Usage(1_000_000, 1), Price(Decimal("0.02")), None),
        (Usage(1, 1_000_000), Price(None, Decimal(15)), None),
        (Usage(0, 1_000_000), Price(None, Decimal(15)), "15"),
        (Usage(1, 1), Price(), None),
        (Usage(), Price(), "0"),
        (Usage(1_000_000, 0, web_searches=1), THREE, None),
        (Usage(1_000_000, 0, web_searches=3), Price(Decimal(3), web_search=Decimal(10)), "3.03"),
    ],
)
def test_a_cost_is_unknown_if_a_required_price_is_missing(
    usage: Usage, price: Price, expected: str | None
) -> None:
    found = cost(usage, price)
    assert found == (None if expected is None else Decimal(expected))


def test_a_missing_price_of_cache_writes_is_never_estimated_too_low() -> None:
    usage = Usage(1_000_000, 0, cache_write_tokens=1_000_000, cache_write_1h_tokens=1_000_000)
    assert cost(usage, Price(Decimal(3), cache_write=Decimal(7))) == 7


def test_a_price_list_is_known_if_some_answers_can_be_priced() -> None:
    assert Price(Decimal(0)).is_known
    assert Price(output=Decimal(1)).is_known
    assert not Price(cached_input=Decimal(1)).is_known


BILLED = Usage(1000, 10, vendor_cost=Decimal("0.5"))


@pytest.mark.parametrize(
    ("usage", "price", "believes", "expected"),
    [
        (BILLED, THREE, True, ("0.5", CostSource.VENDOR)),
        (BILLED, None, True, ("0.5", CostSource.VENDOR)),
        (BILLED, THREE, False, ("0.00315", CostSource.PRICE_LIST)),
        (BILLED, None, False, None),
        (Usage(1000, 10), THREE, True, ("0.00315", CostSource.PRICE_LIST)),
        (Usage(1000, 10, estimated=True), THREE, True, ("0.00315", CostSource.ESTIMATED)),
        (Usage(1000, 10), None, True, None),
        (Usage(), None, False, ("0", CostSource.PRICE_LIST)),
        (Usage(1, 0, vendor_cost=Decimal(0)), THREE, True, ("0", CostSource.VENDOR)),
        (
            Usage(1000, 10, vendor_cost=MAX_VENDOR_COST + 1),
            THREE,
            True,
            ("0.00315", CostSource.PRICE_LIST),
        ),
        (
            Usage(1000, 10, vendor_cost=Decimal(-1)),
            THREE,
            True,
            ("0.00315", CostSource.PRICE_LIST),
        ),
    ],
)
def test_the_vendor_s_bill_is_used_only_for_vendors_that_report_costs(
    usage: Usage, price: Price | None, believes: bool, expected: tuple[str, CostSource] | None
) -> None:
    found = charge(usage, price, trusts_vendor=believes)
    assert found == ((None, None) if expected is None else (Decimal(expected[0]), expected[1]))


@pytest.mark.parametrize(("length", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (400, 100)])
def test_four_characters_are_estimated_as_one_token(length: int, tokens: int) -> None:
    assert estimate_tokens(length) == tokens
