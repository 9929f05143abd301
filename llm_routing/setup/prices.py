"""Prices and context windows from the data that genai-prices brings along; no network.

Which models are asked for is the catalogue's business.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import TieredPrices


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Prices in USD per million tokens and the context window in tokens; None where unknown."""

    input_price: Decimal | None = None
    output_price: Decimal | None = None
    cached_input_price: Decimal | None = None
    context_window: int | None = None


def model_facts(provider: str, model_id: str, on: date) -> ModelFacts:
    """What genai-prices knows of a model, as of a day.

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
    return ModelFacts(
        input_price=input_price,
        output_price=output_price,
        cached_input_price=_plain(prices.cache_read_mtok),
        context_window=model.context_window,
    )


def _plain(price: "Decimal | TieredPrices | None") -> Decimal | None:
    return price if price is None or isinstance(price, Decimal) else price.base
