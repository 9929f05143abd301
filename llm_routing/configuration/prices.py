"""Prices and context windows from the data in genai-prices; no network.

The catalogue selects the models.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

from llm_routing.core.pricing import Price

if TYPE_CHECKING:
    from genai_prices.types import TieredPrices


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Prices, and the context window in tokens; None where unknown."""

    price: Price = field(default_factory=Price)
    context_window: int | None = None


FREE = Price(*[Decimal(0)] * 6)
"""The facts of a model that is free of charge."""


def price_fields(price: Price) -> dict[str, Decimal | None]:
    """Returns prices by their field names in `models.ModelConfig`."""
    return {
        "input_price": price.input,
        "output_price": price.output,
        "cached_input_price": price.cached_input,
        "cache_write_price": price.cache_write,
        "cache_write_1h_price": price.cache_write_1h,
        "web_search_price": price.web_search,
    }


def model_facts(provider: str, model_id: str, on: date) -> ModelFacts:
    """Returns the price of a model on a day, from genai-prices.

    If a price depends on the length of the prompt, returns that of short prompts; if it depends on
    the hour, that of noon UTC, which is outside the vendors' peak hours. A model with only an input
    price (embeddings) has an output price of zero. A model that the installed genai-prices does not
    list has no facts.
    """
    # Imported here, so that a server, which needs no prices, does not hold them all in memory.
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, model = get_snapshot().find_provider_model(model_id, None, provider, None)
    except LookupError:
        return ModelFacts()
    prices = model.get_prices(datetime.combine(on, time(12), tzinfo=UTC))
    input_price = _plain(prices.input_mtok)
    output_price = _plain(prices.output_mtok)
    if input_price is not None and output_price is None:
        output_price = Decimal(0)
    price = Price(
        input=input_price,
        output=output_price,
        cached_input=_plain(prices.cache_read_mtok),
        cache_write=_plain(prices.cache_write_mtok),
        cache_write_1h=_plain(prices.cache_write_1h_mtok),
        web_search=_plain(prices.web_searches_kcount),
    )
    return ModelFacts(price, model.context_window)


def _plain(price: "Decimal | TieredPrices | None") -> Decimal | None:
    if price is None:
        return None
    plain = price if isinstance(price, Decimal) else price.base
    # Rounded like the column, else the next run would see a changed price.
    return round(plain, 6)
