"""Parses model lists of vendors into one shape. Does no I/O and trusts no field.

The supported shapes are OpenAI's `{"data": [{"id": …}]}`, which most vendors extend, Anthropic's
with its pages, Together's bare array, and Ollama's and Google's own `{"models": [{"name": …}]}`.

Sources: https://platform.openai.com/docs/api-reference/models/list,
https://platform.claude.com/docs/en/api/models/list,
https://openrouter.ai/docs/api-reference/list-available-models,
https://docs.together.ai/reference/models-1, https://docs.mistral.ai/api/endpoint/models,
https://console.groq.com/docs/api-reference#models-list,
https://portkey.ai/docs/api-reference/inference-api/models/models
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from llm_routing.core.capabilities import Capability
from llm_routing.core.codec import decode
from llm_routing.core.pricing import Price
from llm_routing.core.quirks import ModelQuirk

MAX_MODELS: Final = 10_000
MAX_ID: Final = 200
MAX_DISPLAY_NAME: Final = 100
MAX_OTHER_NAMES: Final = 20

_MILLION: Final = Decimal(1_000_000)
_THOUSAND: Final = Decimal(1000)
_HIGHEST_PRICE: Final = Decimal(1_000_000)
_SMALLEST_PRICE: Final = Decimal("0.000001")
_MOST_TOKENS: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as its provider lists it. None: the list does not say. `other_names` are further
    names that the provider accepts for it."""

    model_id: str
    display_name: str = ""
    other_names: tuple[str, ...] = ()
    capabilities: frozenset[Capability] | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    price: Price = field(default_factory=Price)
    quirks: frozenset[ModelQuirk] = frozenset()


@dataclass(frozen=True, slots=True)
class Page:
    """One response: its models, how many entries could not be parsed, and whether more pages
    follow; `last_id` is the cursor for Anthropic's next page."""

    models: tuple[ListedModel, ...]
    unreadable: int = 0
    has_more: bool = False
    last_id: str = ""


def parse_page(body: bytes) -> Page:
    """Returns the models of a response. Counts and skips entries without a usable identifier, and
    entries past `MAX_MODELS`. Raises `ValueError` if it is not a list of models."""
    value = decode(body)
    entries = _entries(value)
    models: dict[str, ListedModel] = {}
    unreadable = 0
    for entry in entries[:MAX_MODELS]:
        model = _model(entry)
        if model is None:
            unreadable += 1
        else:
            models.setdefault(model.model_id, model)
    envelope = value if isinstance(value, dict) else {}
    last_id = envelope.get("last_id")
    return Page(
        models=tuple(models.values()),
        unreadable=unreadable,
        has_more=_has_more(envelope, len(entries)),
        last_id=last_id if isinstance(last_id, str) and len(last_id) <= MAX_ID else "",
    )


@dataclass(frozen=True, slots=True)
class OfferedModels:
    """The names that a list offers, and the short forms that vendors accept for them."""

    names: frozenset[str]
    short: frozenset[str]

    def has(self, model_id: str) -> bool:
        """Returns whether the list offers a model, under its own name or an accepted one: a name
        without its date, Ollama's `:latest`, OpenRouter's variants after a colon."""
        base, _, _ = model_id.rpartition(":")
        short = model_id.removesuffix("-latest")
        return (
            model_id in self.names
            or short in self.names
            or short in self.short
            or base in self.names
        )


def offered_models(models: Iterable[ListedModel]) -> OfferedModels:
    """Returns the names that a list of models offers."""
    names = {name for model in models for name in (model.model_id, *model.other_names)}
    return OfferedModels(
        frozenset(names), frozenset(_RELEASE.sub("", name) for name in names) - names
    )


_RELEASE: Final = re.compile(r"(?:[-@](?:\d{4}-?\d{2}-?\d{2}|\d{3,4}|latest)|:latest)\Z")


def _entries(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        for name in ("data", "models"):
            if name in value:
                entries = value[name]
                # Ollama sends null if it has no models.
                if entries is None:
                    return []
                if isinstance(entries, list):
                    return entries
    raise ValueError("it contains no list of models")


def _has_more(envelope: Mapping[str, Any], count: int) -> bool:
    total = _tokens(envelope.get("total"))
    return (
        envelope.get("has_more") is True
        or bool(envelope.get("nextPageToken") or envelope.get("next_page_token"))
        or (total is not None and total > count)
        or count > MAX_MODELS
    )


def _model(entry: Any) -> ListedModel | None:
    if isinstance(entry, str):
        entry = {"id": entry}
    if not isinstance(entry, dict):
        return None
    model_id = _model_id(entry.get("id") or entry.get("model") or entry.get("name"))
    if model_id is None:
        return None
    top_provider = _mapping(entry.get("top_provider"))
    others = entry.get("aliases")
    return ListedModel(
        model_id=model_id,
        display_name=_display_name(entry, model_id),
        other_names=tuple(
            name
            for other in (others[:MAX_OTHER_NAMES] if isinstance(others, list) else ())
            if (name := _model_id(other)) is not None
        ),
        capabilities=_capabilities(entry),
        context_window=_first_number(
            entry, "context_length", "context_window", "max_context_length", "max_model_len",
            "max_input_tokens", "inputTokenLimit",
        ),
        max_output_tokens=_first_number(
            {**entry, **top_provider},
            "max_completion_tokens", "max_output_tokens", "outputTokenLimit",
        )
        or (_tokens(entry.get("max_tokens")) if entry.get("max_input_tokens") else None),
        price=_prices(entry.get("pricing")),
        quirks=_quirks(entry),
    )  # fmt: skip


def _model_id(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    # Google writes `models/gemini-…` and accepts the name with or without the prefix.
    model_id = value.removeprefix("models/")
    fits = 0 < len(model_id) <= MAX_ID and model_id.isprintable() and " " not in model_id
    return model_id if fits else None


def _display_name(entry: Mapping[str, Any], model_id: str) -> str:
    for name in ("display_name", "displayName", "name"):
        text = entry.get(name)
        if isinstance(text, str) and text not in ("", model_id, f"models/{model_id}"):
            printable = "".join(
                sign for sign in text[: 10 * MAX_DISPLAY_NAME] if sign.isprintable()
            )
            return printable.strip()[:MAX_DISPLAY_NAME]
    return ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _tokens(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_TOKENS:
        return value
    return None


def _first_number(entry: Mapping[str, Any], *names: str) -> int | None:
    return next((found for name in names if (found := _tokens(entry.get(name)))), None)


_OPENROUTER_PRICES: Final = {
    "input": "prompt",
    "output": "completion",
    "cached_input": "input_cache_read",
    "cache_write": "input_cache_write",
    "cache_write_1h": "input_cache_write_1h",
}
_TOGETHER_PRICES: Final = {"input": "input", "output": "output", "cached_input": "cached_input"}


def _prices(pricing: Any) -> Price:
    """Returns prices per million tokens. Together's `input` and `output` are per million,
    OpenRouter's `prompt` and `completion` per token; OpenRouter's −1 means that the price depends
    on the model it picks."""
    said = _mapping(pricing)
    if "prompt" in said:
        names, factor = _OPENROUTER_PRICES, _MILLION
    else:
        names, factor = _TOGETHER_PRICES, Decimal(1)
    found = {ours: _price(said.get(theirs), factor) for ours, theirs in names.items()}
    if found["input"] is None or found["output"] is None:
        return Price()
    # Together sends 0 for models rented by the hour.
    if factor == 1 and not found["input"] and not found["output"]:
        return Price()
    # OpenRouter's price is for one search.
    return Price(**found, web_search=_price(said.get("web_search"), _THOUSAND))


def _price(value: Any, factor: Decimal) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    if len(text) > 40:
        return None
    try:
        price = Decimal(text) * factor
    except ArithmeticError:
        return None
    if not price.is_finite() or not 0 <= price <= _HIGHEST_PRICE:
        return None
    return price.quantize(_SMALLEST_PRICE)


_CHAT: Final = frozenset({Capability.CHAT, Capability.STREAMING})
_EMBEDDINGS: Final = frozenset({Capability.EMBEDDINGS})
_NOTHING: Final[frozenset[Capability]] = frozenset()
_TYPES: Final[Mapping[str, frozenset[Capability]]] = {
    "chat": _CHAT,
    "llm": _CHAT,
    "vlm": _CHAT | {Capability.VISION},
    "embedding": _EMBEDDINGS,
    "embeddings": _EMBEDDINGS,
    **dict.fromkeys(
        ("language", "code", "image", "moderation", "rerank", "audio", "transcribe", "video"),
        _NOTHING,
    ),
}


def _capabilities(entry: Mapping[str, Any]) -> frozenset[Capability] | None:
    """Returns the capabilities that the list states for a model, without unknown ones."""
    kind = entry.get("type")
    if isinstance(kind, str) and kind in _TYPES:
        return _TYPES[kind]
    if isinstance(entry.get("architecture"), dict):
        return _from_architecture(entry)
    said = _mapping(entry.get("capabilities"))
    if "completion_chat" in said:
        return _from_flags(said)
    if any(isinstance(flag, dict) for flag in said.values()):
        return _from_support(said)
    return None


def _from_architecture(entry: Mapping[str, Any]) -> frozenset[Capability] | None:
    """Reads OpenRouter's `architecture` and `supported_parameters`."""
    architecture = entry["architecture"]
    outputs = architecture.get("output_modalities")
    if not isinstance(outputs, list):
        return None
    if "embeddings" in outputs:
        return _EMBEDDINGS
    if "text" not in outputs:
        return _NOTHING
    inputs = architecture.get("input_modalities")
    found = set(_CHAT)
    if isinstance(inputs, list) and "image" in inputs:
        found.add(Capability.VISION)
    takes = entry.get("supported_parameters")
    if isinstance(takes, list) and takes:
        if "tools" in takes:
            found.add(Capability.TOOLS)
        if "structured_outputs" in takes:
            found.add(Capability.JSON_SCHEMA)
        if "reasoning" in takes:
            found.add(Capability.REASONING)
    return frozenset(found)


def _quirks(entry: Mapping[str, Any]) -> frozenset[ModelQuirk]:
    """Returns the quirks that OpenRouter's `supported_parameters` imply."""
    takes = entry.get("supported_parameters")
    is_chat = Capability.CHAT in (_capabilities(entry) or ())
    if is_chat and isinstance(takes, list) and takes and "temperature" not in takes:
        return frozenset({ModelQuirk.NO_SAMPLING})
    return frozenset()


def _from_flags(said: Mapping[str, Any]) -> frozenset[Capability] | None:
    """Reads Mistral's `capabilities`. They have no flag for embeddings, so the name decides."""
    if said["completion_chat"] is not True:
        return None
    names = {
        "function_calling": Capability.TOOLS,
        "vision": Capability.VISION,
        "reasoning": Capability.REASONING,
    }
    return _CHAT | {ours for theirs, ours in names.items() if said.get(theirs) is True}


def _from_support(said: Mapping[str, Any]) -> frozenset[Capability]:
    """Reads Anthropic's `capabilities`; every Anthropic model supports tools."""
    names = {
        "image_input": Capability.VISION,
        "structured_outputs": Capability.JSON_SCHEMA,
        "thinking": Capability.REASONING,
    }
    return (_CHAT | {Capability.TOOLS}) | {
        ours
        for theirs, ours in names.items()
        if _mapping(said.get(theirs)).get("supported") is True
    }
