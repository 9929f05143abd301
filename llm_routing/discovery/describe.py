"""Describes a listed model as a row: price and context window from genai-prices if known, and
cautiously guessed capabilities. Writes nothing."""

import re
from datetime import date
from typing import Any, Final

from llm_routing.configuration.catalogue import MODELS, SANDBOX_CHAT
from llm_routing.configuration.prices import FREE, ModelFacts, model_facts, price_fields
from llm_routing.core.capabilities import Capability
from llm_routing.core.quirks import ModelQuirk
from llm_routing.vendors import VENDORS

from .lists import ListedModel

_CATALOGUE: Final = {(entry.provider, entry.model_id): entry for entry in MODELS}

_EMBEDS: Final = re.compile(r"embed")
# Models for images, audio, moderation and ranking; and OpenAI's last plain completion models.
_OTHER_TRADE: Final = re.compile(
    r"(?<![a-z])(?:whisper|tts|transcribe|speech|audio|realtime|dall-e|image|imagen|sora|veo|video"
    r"|lyria|moderation|rerank|reranker|ocr|babbage-002|davinci-002)(?![a-z])"
)
# They reject temperature and top_p; leaving those out harms no model that accepts them.
_NO_SAMPLING: Final = re.compile(
    r"(?:^|/)(?:o[1-9](?:-|$)|gpt-[5-9]|gpt-\d\d|claude-(?:fable|opus-4[.-][7-9]|opus-[5-9]"
    r"|sonnet-[5-9]|haiku-[5-9]))"
)
_INTEGRATION: Final = re.compile(r"@(?P<vendor>[a-z-]+?)(?:-[a-z0-9]+)?/(?P<model>.+)")


def describe(vendor: str, model: ListedModel, today: date) -> dict[str, Any]:
    """Returns the fields of a new `ModelConfig` for a vendor's model, without provider and alias.

    The price comes from genai-prices, else from the list; prices of the two are never mixed.
    """
    entry = _CATALOGUE.get((vendor, model.model_id))
    facts = _facts(vendor, model.model_id, today)
    price = model.price if facts.price.input is None else facts.price
    abilities = entry.capabilities if entry else capabilities(vendor, model)
    context_window = facts.context_window or model.context_window
    longest = (entry.max_output_tokens if entry else None) or model.max_output_tokens
    if longest and context_window and longest > context_window:
        longest = None
    return {
        "model_id": model.model_id,
        "display_name": entry.display_name if entry else model.display_name,
        "capabilities": sorted(abilities),
        "quirks": sorted(entry.quirks if entry else _quirks(model, abilities)),
        "context_window": context_window,
        "max_output_tokens": longest,
        **price_fields(price),
    }


def capabilities(vendor: str, model: ListedModel) -> frozenset[Capability]:
    """Returns the capabilities of a model from its list, else from its name; empty for a model that
    serves no operation of this gateway."""
    if model.capabilities is not None:
        return model.capabilities
    return _by_name(vendor, model.model_id.lower())


def _quirks(model: ListedModel, abilities: frozenset[Capability]) -> frozenset[ModelQuirk]:
    if Capability.CHAT in abilities and _NO_SAMPLING.search(model.model_id.lower()):
        return model.quirks | {ModelQuirk.NO_SAMPLING}
    return model.quirks


def _by_name(vendor: str, name: str) -> frozenset[Capability]:
    if _EMBEDS.search(name):
        return frozenset({Capability.EMBEDDINGS})
    if _OTHER_TRADE.search(name):
        return frozenset()
    if VENDORS[vendor].is_sandbox:
        return SANDBOX_CHAT
    return frozenset({Capability.CHAT, Capability.STREAMING})


def _facts(vendor: str, model_id: str, today: date) -> ModelFacts:
    if VENDORS[vendor].is_sandbox:
        return ModelFacts(FREE)
    # Portkey's `@integration/model`; the integration is named after its vendor.
    if (match := _INTEGRATION.fullmatch(model_id)) is not None:
        vendor, model_id = match["vendor"], match["model"]
    return model_facts(vendor, model_id, today)
