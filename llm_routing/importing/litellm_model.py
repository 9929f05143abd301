"""Reads one entry of LiteLLM's `model_list`: the model and its share of the load.

Sources: https://docs.litellm.ai/docs/proxy/config_settings,
https://docs.litellm.ai/docs/proxy/load_balancing
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from llm_routing.core.capabilities import Capability

from .plan import Draft, PlannedModel
from .text import names_secret

_MILLION: Final = Decimal(1_000_000)
_CHAT: Final = frozenset({Capability.CHAT, Capability.STREAMING})
_MODES: Final[Mapping[str, frozenset[Capability]]] = {
    "chat": _CHAT,
    "embedding": frozenset({Capability.EMBEDDINGS}),
}
_ABILITIES: Final[Mapping[str, Capability]] = {
    "supports_function_calling": Capability.TOOLS,
    "supports_vision": Capability.VISION,
    "supports_response_schema": Capability.JSON_SCHEMA,
    "supports_reasoning": Capability.REASONING,
}
# Costs per token, and the field of `PlannedModel` for the price per million tokens.
_COSTS: Final[Mapping[str, str]] = {
    "input_cost_per_token": "input_price",
    "output_cost_per_token": "output_price",
    "cache_read_input_token_cost": "cached_input_price",
    "cache_creation_input_token_cost": "cache_write_price",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h_price",
}
_USED: Final = frozenset(
    {"model", "api_key", "api_base", "base_url", "custom_llm_provider", "order", "weight", "rpm",
     "tpm", "temperature", "max_tokens", *_COSTS}
)  # fmt: skip
_USED_INFO: Final = frozenset(
    {*_ABILITIES, *_COSTS, "mode", "id", "max_tokens", "max_input_tokens", "max_output_tokens",
     "db_model"}
)  # fmt: skip

_REASONS: Final[Mapping[str, str]] = {
    "timeout": "set total_timeout at the provider, or a deadline at the route",
    "stream_timeout": "set first_token_timeout at the provider",
    "max_retries": "retries follow from the route's targets and deadline",
    "num_retries": "retries follow from the route's targets and deadline",
    "max_parallel_requests": "set the maximum connections of the provider",
    "organization": "a provider has no organization; use a key of that organization",
    "api_version": "no vendor here has versions in its address",
    "extra_headers": "a provider has no headers of its own",
    "headers": "a provider has no headers of its own",
    "mock_response": "the sandbox generates answers without a model (manage.py llm_sandbox)",
    "tags": "routing by tags is not supported; use a use case instead",
    "base_model": "prices belong to the model; edit them if this deployment's differ",
    "access_groups": "access groups are not supported",
}
_NO_PLACE: Final = "this setting has no equivalent"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The values of `litellm_params` other than the model."""

    order: int = 1
    share: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)


def read_parameters(draft: Draft, said: Mapping[str, Any], where: str) -> Parameters:
    """Reads level, share and values; reports everything else."""
    values: dict[str, float] = {}
    for name, least, most in (("temperature", 0, 2), ("max_tokens", 1, 2**31 - 1)):
        value = said.get(name)
        if _is_number(value) and least <= float(value or 0) <= most:
            values[name] = float(value or 0)
        elif value is not None:
            draft.skip(f"{where}.{name}", "this value is not valid")
    order = said.get("order", 1)
    if not isinstance(order, int) or isinstance(order, bool):
        draft.skip(f"{where}.order", "this is not a number")
        order = 1
    share = None
    for name in ("weight", "rpm", "tpm"):
        if _is_number(said.get(name)) and said[name] > 0:
            if share is None:
                share = float(said[name])
            if name != "weight":
                draft.note(
                    f"{where}.{name}",
                    "used as this deployment's share of the load; it does not limit requests",
                )
        elif said.get(name) is not None:
            draft.skip(f"{where}.{name}", "this is not a valid share")
    for name, value in said.items():
        if name not in _USED and value not in (None, [], {}) and not names_secret(name):
            draft.skip(f"{where}.{name}", _REASONS.get(name, _NO_PLACE))
    return Parameters(order, share, values)


def model_of(
    draft: Draft, provider: str, model_id: str, entry: Mapping[str, Any], where: str
) -> PlannedModel:
    """Returns the model with the facts of `model_info` and the costs of `litellm_params`."""
    info = entry.get("model_info")
    said: Mapping[str, Any] = info if isinstance(info, dict) else {}
    for name, value in said.items():
        if name not in _USED_INFO and value not in (None, [], {}) and not names_secret(name):
            draft.skip(f"{where}.model_info.{name}", _REASONS.get(name, _NO_PLACE))
    capabilities = None
    mode = said.get("mode")
    if isinstance(mode, str) and mode in _MODES:
        capabilities = _MODES[mode]
    elif mode is not None:
        draft.skip(f"{where}.model_info.mode", "only chat and embedding models are supported")
        capabilities = frozenset()
    abilities = {ours for theirs, ours in _ABILITIES.items() if said.get(theirs) is True}
    if abilities and capabilities != _MODES["embedding"]:
        capabilities = (capabilities or _CHAT) | abilities
    costs = {**said, **entry["litellm_params"]}
    prices = {field: _price(draft, costs.get(cost), where) for cost, field in _COSTS.items()}
    return PlannedModel(
        provider=provider,
        model_id=model_id,
        capabilities=capabilities,
        context_window=_tokens(said.get("max_input_tokens")),
        max_output_tokens=_tokens(said.get("max_output_tokens") or said.get("max_tokens")),
        input_price=prices["input_price"],
        output_price=prices["output_price"],
        cached_input_price=prices["cached_input_price"],
        cache_write_price=prices["cache_write_price"],
        cache_write_1h_price=prices["cache_write_1h_price"],
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tokens(value: Any) -> int | None:
    return value if isinstance(value, int) and 1 <= value < 2**31 and value is not True else None


def _price(draft: Draft, value: Any, where: str) -> Decimal | None:
    if value is None:
        return None
    try:
        # YAML reads 3e-06, without a point, as a string.
        price = Decimal(str(value)) * _MILLION
    except ArithmeticError:
        price = Decimal("NaN")
    if not price.is_finite() or not 0 <= price < 1_000_000:
        draft.skip(where, "a cost per token is not valid")
        return None
    return price.quantize(Decimal("0.000001"))
