"""Reads the mappings of a hard-coded router: the model for each use case and tier.

Supports the usual shapes, in which enumeration members are already strings and constructor calls
dictionaries: `{use_case: {tier: "provider/model"}}`, the same with a dictionary of `model`,
`provider`, `temperature`, … at the end, `{(use_case, tier): …}`, `{tier: {use_case: …}}`, and a
list of dictionaries with `use_case` and `tier`. `source` parses the file format.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from llm_routing.core.types import ModelTier, UseCase

from .model_locations import Unmappable, location_of, provider_for
from .plan import Draft, PlannedModel, PlannedRoute, PlannedTarget
from .text import looks_secret, names_secret, shown, use_case_name

SOURCE: Final = "model mappings"

_TIERS: Final[Mapping[str, str]] = {
    **{tier.value: tier.value for tier in ModelTier},
    **dict.fromkeys(("high", "best", "large", "smart", "advanced", "pro"), ModelTier.PREMIUM.value),
    **dict.fromkeys(("medium", "balanced", "default", "normal", "mid"), ModelTier.STANDARD.value),
    **dict.fromkeys(
        ("low", "cheap", "small", "fast", "budget", "basic", "economical"), ModelTier.ECONOMY.value
    ),
}
_MODEL: Final = ("primary_model", "model", "model_id", "model_name", "primary", "default_model")
_FALLBACKS: Final = (
    "fallback_models", "fallbacks", "fallback", "fallback_model", "backups", "backup",
    "backup_models", "backup_model", "alternatives",
)  # fmt: skip
_NUMBERS: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "cache_ttl": "cache_ttl",
    "deadline": "deadline",
    "timeout": "deadline",
    "timeout_seconds": "deadline",
    "request_timeout": "deadline",
}
_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 2),
    "max_tokens": (1, 2**31 - 1),
    "cache_ttl": (0, 2**31 - 1),
    "deadline": (0.001, 3600),
}
_WHOLE: Final = frozenset({"max_tokens", "cache_ttl"})
_PROMPTS: Final = ("system_prompt", "system_message", "system")
_PLACES: Final = ("api_key", "api_base", "base_url", "provider", "use_case", "tier")
# The fallbacks for a primary model are in this mapping.
_RELAYS: Final = ("openrouter", "portkey")


def read_mappings(draft: Draft, value: Any, where: str, *, through: str = "") -> None:
    """Adds the routes of `value` to the draft."""
    for entry in _entries(draft, value, where):
        _route(draft, entry, through)


@dataclass(frozen=True, slots=True)
class _Entry:
    """The configuration of one use case in one tier, in any of the accepted shapes."""

    where: str
    use_case: str
    tier: str
    said: Mapping[str, Any] = field(repr=False)


def _entries(draft: Draft, value: Any, where: str) -> Iterator[_Entry]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            place = f"{where}[{number}]"
            if isinstance(item, dict) and isinstance(item.get("use_case"), str):
                yield from _tiers(draft, item["use_case"], item, place)
            else:
                draft.skip(place, "it names no use case")
    elif isinstance(value, dict) and value and all(_is_tier(name) for name in value):
        # Tiers are the outer keys; without use cases inside they are those of general questions.
        for tier, inner in value.items():
            place = f"{where}[{tier}]"
            if isinstance(inner, dict) and not _is_said(inner):
                for use_case, said in inner.items():
                    yield from _tier(draft, use_case, tier, said, f"{place}[{use_case}]")
            else:
                draft.note(place, "without a use case, general_purpose is used")
                yield from _tier(draft, UseCase.GENERAL_PURPOSE.value, tier, inner, place)
    elif isinstance(value, dict):
        for name, said in value.items():
            if isinstance(name, tuple):
                place = f"{where}[{', '.join(name)}]"
                if len(name) == 2:
                    tier_first = _is_tier(name[0]) and not _is_tier(name[1])
                    use_case, tier = reversed(name) if tier_first else name
                    yield from _tier(draft, use_case, tier, said, place)
                else:
                    draft.skip(place, "this is not a use case and a tier")
            else:
                yield from _tiers(draft, name, said, f"{where}[{name}]")
    else:
        draft.skip(where, "this is not a mapping of use cases")


def _tiers(draft: Draft, use_case: str, said: Any, where: str) -> Iterator[_Entry]:
    """Returns the tiers of a use case. A configuration without a tier is standard, as for every
    caller here."""
    standard = ModelTier.STANDARD.value
    if isinstance(said, str):
        yield _Entry(where, use_case, standard, {"model": said})
    elif isinstance(said, list):
        if said and all(isinstance(item, dict) and "tier" in item for item in said):
            for number, item in enumerate(said):
                yield _Entry(f"{where}[{number}]", use_case, str(item["tier"]), item)
        elif said:
            yield _Entry(where, use_case, standard, {"model": said[0], "fallbacks": said[1:]})
        else:
            draft.skip(where, "it names no model")
    elif isinstance(said, dict) and _is_said(said):
        yield _Entry(where, use_case, str(said.get("tier") or standard), said)
    elif isinstance(said, dict) and said:
        for tier, inner in said.items():
            yield from _tier(draft, use_case, str(tier), inner, f"{where}[{tier}]")
    else:
        draft.skip(where, "it names no model")


def _tier(draft: Draft, use_case: str, tier: str, said: Any, where: str) -> Iterator[_Entry]:
    """Reads one tier of a use case."""
    if isinstance(said, str):
        said = {"model": said}
    elif isinstance(said, list) and said:
        said = {"model": said[0], "fallbacks": said[1:]}
    if isinstance(said, dict) and _is_said(said):
        yield _Entry(where, use_case, tier, said)
    else:
        draft.skip(where, "it names no model")


def _is_tier(name: Any) -> bool:
    return isinstance(name, str) and name.strip().lower() in _TIERS


def _is_said(said: Mapping[str, Any]) -> bool:
    return any(name in said for name in _MODEL)


def _route(draft: Draft, entry: _Entry, through: str) -> None:
    asked = entry.tier.strip().lower()
    tier = _TIERS.get(asked)
    if tier is None:
        draft.skip(
            entry.where,
            f"there is no tier {shown(entry.tier)} here; use a separate use case instead",
        )
        return
    if tier != asked:
        draft.note(entry.where, f"the tier {shown(entry.tier)} becomes {tier}")
    use_case = _use_case(draft, entry)
    if not use_case:
        return
    said = {name: value for name, value in entry.said.items() if value not in (None, [], {})}
    targets = tuple(_targets(draft, said, entry.where, through))
    if not targets:
        draft.skip(entry.where, "none of its models has an equivalent")
        return
    values = _numbers(draft, said, entry.where)
    prompt = _prompt(draft, said, entry.where)
    is_active = said.get("is_active", said.get("enabled", True)) is not False
    known = {*_MODEL, *_FALLBACKS, *_NUMBERS, *_PROMPTS, *_PLACES, "is_active", "enabled"}
    for name in said:
        if name not in known and not names_secret(name):
            draft.skip(f"{entry.where}.{name}", "a route has no such field")
    draft.add_route(
        entry.where,
        PlannedRoute(use_case, tier, targets, system_prompt=prompt, is_active=is_active, **values),
    )


def _use_case(draft: Draft, entry: _Entry) -> str:
    name = entry.use_case
    if (built_in := name.strip().lower()) in set(UseCase):
        return built_in
    found = use_case_name(name)
    if not found or looks_secret(name):
        draft.skip(entry.where, "this is not a valid use case name")
        return ""
    if found != name:
        draft.note(entry.where, f"callers send {shown(found)}")
    return found


def _targets(
    draft: Draft, said: Mapping[str, Any], where: str, through: str
) -> Iterator[PlannedTarget]:
    """Returns the model and its fallbacks without duplicates, in their order."""
    wanted: list[tuple[str, Any]] = [
        (f"{where}.{name}", said[name]) for name in _MODEL if name in said
    ][:1]
    for name in _FALLBACKS:
        fallbacks = said.get(name)
        if isinstance(fallbacks, list):
            wanted += [(f"{where}.{name}[{n}]", item) for n, item in enumerate(fallbacks)]
        elif fallbacks is not None:
            wanted.append((f"{where}.{name}", fallbacks))
    seen: set[str] = set()
    for number, (place, item) in enumerate(wanted):
        if number == 0:
            item = {**said, "model": item}
        elif isinstance(item, str) and said.get("provider") in _RELAYS:
            item = {"model": item, "provider": said["provider"]}
        key = _model(draft, item, place, through)
        if key and key not in seen:
            yield PlannedTarget(key, position=len(seen))
            seen.add(key)


def _model(draft: Draft, said: Any, where: str, through: str) -> str:
    """Returns the key of the named model; empty if it has no equivalent."""
    if isinstance(said, str):
        said = {"model": said}
    said = said if isinstance(said, dict) else {}
    name = next((said[n] for n in ("model", *_MODEL) if n in said), None)
    if not isinstance(name, str):
        draft.skip(where, "it names no model")
        return ""
    provider = said.get("provider")
    try:
        location = location_of(name, provider if isinstance(provider, str) else "", through)
        address = said.get("api_base") or said.get("base_url") or ""
        row = provider_for(
            draft, location, where, base_url=str(address), api_key=said.get("api_key")
        )
    except Unmappable as error:
        draft.skip(where, f"{shown(name)}: {error}")
        return ""
    if (
        location.vendor == "openrouter"
        and name == location.model_id
        and not provider
        and not through
    ):
        draft.note(where, f"{shown(name)} is read as a name of OpenRouter's")
    model = PlannedModel(row, location.model_id)
    draft.add_model(model)
    return model.key


def _numbers(draft: Draft, said: Mapping[str, Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, ours in _NUMBERS.items():
        if name not in said:
            continue
        value, (least, most) = said[name], _RANGES[ours]
        place = f"{where}.{name}"
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most or (ours in _WHOLE and value != int(value)):
            draft.skip(place, f"{ours.replace('_', ' ')} is a number from {least:g} to {most:g}")
        elif ours in found:
            draft.skip(place, f"{ours} is given twice")
        else:
            found[ours] = int(value) if ours in _WHOLE else float(value)
            if ours == "deadline" and name != "deadline":
                draft.note(place, "used as the deadline of a request, over all its attempts")
    return found


def _prompt(draft: Draft, said: Mapping[str, Any], where: str) -> str:
    for name in _PROMPTS:
        prompt = said.get(name)
        if isinstance(prompt, str) and prompt:
            if looks_secret(prompt):
                draft.skip(f"{where}.{name}", "it contains a value that looks like a key")
                return ""
            return prompt.replace("\x00", "")
        if prompt is not None and prompt != "":
            draft.skip(f"{where}.{name}", "this is not text")
    return ""
