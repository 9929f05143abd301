"""Prices and context windows from the data that genai-prices brings along; no network.

Which models are asked for is the catalogue's business.
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
"""Of what costs nothing."""


def price_fields(price: Price) -> dict[str, Decimal | None]:
    """Prices by their names in `models.ModelConfig`."""
    return {
        "input_price": price.input,
        "output_price": price.output,
        "cached_input_price": price.cached_input,
        "cache_write_price": price.cache_write,
        "cache_write_1h_price": price.cache_write_1h,
        "web_search_price": price.web_search,
    }


def model_facts(provider: str, model_id: str, on: date) -> ModelFacts:
    """The price of a model on a day, from genai-prices.

    Where a price depends on the length of the prompt it is the one of short prompts; where it
    depends on the hour, that of noon UTC, which lies outside the vendors' peaks. A model that is
    priced for input alone (embeddings) has an output price of zero. Nothing is known of a model
    that the installed genai-prices does not list.
    """
    # Here, so that a server, which asks for no prices, does not hold them all in memory.
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
    # As exact as the column is, or the next run would take the same price for another one.
    return round(plain, 6)
