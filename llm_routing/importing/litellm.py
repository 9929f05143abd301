"""Reads LiteLLM's `config.yaml`: deployments, groups and fallbacks.

A group consists of the deployments that share a `model_name`. A group of one deployment becomes an
alias of its model. A group with several deployments, with fallbacks or with its own values becomes
a use case of that name in the tier standard. `litellm_settings` lists the other sections.

Source: https://docs.litellm.ai/docs/proxy/config_settings
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import gcd
from typing import Any, Final

from llm_routing.core.types import ModelTier, UseCase

from .litellm_model import model_of, read_parameters
from .litellm_settings import Links, list_sections, read_links
from .model_locations import Unmappable, location_of, provider_for
from .plan import Draft, PlannedModel, PlannedRoute, PlannedTarget
from .text import looks_secret, shown, use_case_name

SOURCE: Final = "LiteLLM configuration"

_LONGEST_ALIAS: Final = 200
_HEAVIEST: Final = 1000


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model of a group: `order` is its level, `share` its share of the load there, and `values`
    its temperature and maximum tokens."""

    where: str
    model: PlannedModel
    order: int = 1
    share: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)


def read_litellm(draft: Draft, document: Mapping[str, Any]) -> None:
    """Adds the file's groups and fallbacks to the draft."""
    credentials = _credentials(draft, document)
    groups: dict[str, list[Deployment]] = {}
    entries = document.get("model_list")
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        where = f"model_list[{number}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("litellm_params"), dict):
            draft.skip(where, "it has no litellm_params")
            continue
        deployment = _deployment(draft, entry, where, credentials)
        if deployment is not None:
            groups.setdefault(str(entry.get("model_name")), []).append(deployment)
    links = read_links(draft, document)
    for alias, group in links.aliases.items():
        if group in groups and alias not in groups:
            groups[alias] = groups[group]
            draft.note(f"model_group_alias.{alias}", f"it is another name of {shown(group)}")
        elif group not in groups:
            draft.skip(f"model_group_alias.{alias}", f"there is no group {shown(group)}")
    for name, deployments in groups.items():
        _group(draft, name, deployments, groups, links)
    list_sections(draft, document)


def _credentials(draft: Draft, document: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Returns the entries of `credential_list` by name."""
    found: dict[str, Mapping[str, Any]] = {}
    rows = document.get("credential_list")
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        values = row.get("credential_values") if isinstance(row, dict) else None
        if isinstance(values, dict):
            found[str(row.get("credential_name"))] = values
        else:
            draft.skip(f"credential_list[{number}]", "it has no credential_values")
    return found


def _deployment(
    draft: Draft,
    entry: Mapping[str, Any],
    where: str,
    credentials: Mapping[str, Mapping[str, Any]],
) -> Deployment | None:
    said = dict(entry["litellm_params"])
    name = str(said.get("model") or "")
    place = f"{where}.litellm_params"
    if credential := said.pop("litellm_credential_name", None):
        if str(credential) not in credentials:
            draft.skip(f"{place}.litellm_credential_name", "there is no credential of this name")
        said = {**credentials.get(str(credential), {}), **said}
    group = entry.get("model_name")
    if not isinstance(group, str) or not group or looks_secret(group):
        draft.skip(f"{where}.model_name", "this is not a valid name")
        return None
    if "*" in name or "*" in group:
        draft.skip(
            where,
            f"{shown(name)} includes every model of a provider; models are rows here: "
            "activate the provider and run llm_discover_models",
        )
        return None
    try:
        location = location_of(name, str(said.get("custom_llm_provider") or ""))
        provider = provider_for(
            draft,
            location,
            f"{place}.api_key",
            base_url=str(said.get("api_base") or said.get("base_url") or ""),
            api_key=said.get("api_key"),
        )
    except Unmappable as error:
        draft.skip(where, f"{shown(name)}: {error}")
        return None
    model = model_of(draft, provider, location.model_id, entry, where)
    draft.add_model(model)
    found = read_parameters(draft, said, place)
    return Deployment(where, model, found.order, found.share, found.values)


def _group(
    draft: Draft,
    name: str,
    deployments: Sequence[Deployment],
    groups: Mapping[str, Sequence[Deployment]],
    links: Links,
) -> None:
    where = f"model_name {name}"
    targets = _targets(draft, where, deployments)
    level = max(target.position for target in targets) + 1
    for fallback in _fallbacks(draft, name, groups, links):
        further = [
            replace(target, position=target.position + level)
            for target in _targets(draft, where, groups[fallback])
            if target.model not in {known.model for known in targets}
        ]
        if further:
            targets += further
            level = max(target.position for target in further) + 1
    values = _values(draft, where, deployments)
    is_use_case = name in set(UseCase)
    if len(targets) == 1 and not values and not is_use_case and _alias(draft, name, targets[0]):
        return
    use_case = use_case_name(name)
    if not use_case:
        draft.skip(where, "this is not a valid use case name")
        return
    if use_case != name:
        _renamed(draft, where, name, use_case, targets)
    draft.add_route(
        where,
        PlannedRoute(
            use_case,
            ModelTier.STANDARD.value,
            tuple(targets),
            temperature=values.get("temperature"),
            max_tokens=int(values["max_tokens"]) if "max_tokens" in values else None,
        ),
    )


def _alias(draft: Draft, name: str, target: PlannedTarget) -> bool:
    """Returns whether callers can request the only model of a group by the group's name."""
    model = draft.models[target.model]
    if name in (model.key, model.alias):
        return True
    taken = name in {other.alias for other in draft.models.values()}
    if model.alias or taken or not _may_be_alias(name):
        return False
    draft.models[target.model] = replace(model, alias=name)
    return True


def _may_be_alias(name: str) -> bool:
    return len(name) <= _LONGEST_ALIAS and name.isprintable() and name == name.strip()


def _renamed(
    draft: Draft, where: str, name: str, use_case: str, targets: Sequence[PlannedTarget]
) -> None:
    """Reports a group whose name is no valid use case: callers use a new name, and the old one
    remains an alias of its first model."""
    text = f"callers send {shown(use_case)}"
    if _alias(draft, name, targets[0]):
        text += f"; {shown(name)} is an alias of {shown(targets[0].model)}, without fallbacks"
    draft.note(where, text)


def _targets(draft: Draft, where: str, deployments: Iterable[Deployment]) -> list[PlannedTarget]:
    """Returns the models of a group without duplicates, by level and share."""
    models: dict[str, Deployment] = {}
    for deployment in deployments:
        if deployment.model.key in models:
            draft.note(
                deployment.where,
                f"{shown(deployment.model.key)} is already in {shown(where)}; a route has "
                "each model once",
            )
        models.setdefault(deployment.model.key, deployment)
    levels = sorted({deployment.order for deployment in models.values()})
    weights = _weights(list(models.values()))
    return [
        PlannedTarget(key, levels.index(deployment.order), weights[key])
        for key, deployment in models.items()
    ]


def _weights(deployments: Sequence[Deployment]) -> dict[str, int]:
    """Returns shares as whole numbers in lowest terms; all are 1 if any is missing."""
    shares = [deployment.share for deployment in deployments]
    if any(share is None or share <= 0 for share in shares):
        return {deployment.model.key: 1 for deployment in deployments}
    smallest = min(share for share in shares if share)
    scale = 1 if all(share == int(share) for share in shares if share) else 10 / smallest
    whole = [max(1, round((share or 0) * scale)) for share in shares]
    divisor = gcd(*whole)
    largest = max(whole) // divisor
    shrink = max(1.0, largest / _HEAVIEST)
    return {
        deployment.model.key: max(1, round(weight / divisor / shrink))
        for deployment, weight in zip(deployments, whole, strict=True)
    }


def _fallbacks(
    draft: Draft, name: str, groups: Mapping[str, Sequence[Deployment]], links: Links
) -> list[str]:
    """Returns the fallback groups of a group without duplicates. Fallbacks for prompts that are too
    long come last."""
    # An alias of a group has the group's fallbacks, unless it has its own.
    origin = links.aliases.get(name, name)
    own = links.fallbacks.get(name, links.fallbacks.get(origin, ()))
    longer = links.longer.get(name, links.longer.get(origin, ()))
    wanted = [*own, *links.defaults, *longer]
    found: list[str] = []
    for fallback in wanted:
        if fallback == name or fallback in found:
            continue
        if fallback in groups:
            found.append(fallback)
        else:
            draft.skip(
                f"fallbacks of {name}", f"there is no group {shown(fallback)} to fall back on"
            )
    if longer:
        draft.note(
            f"context_window_fallbacks of {name}",
            "here they are used after every failure, after the other fallbacks, not "
            "only for long prompts",
        )
    return found


def _values(draft: Draft, where: str, deployments: Sequence[Deployment]) -> dict[str, float]:
    """Returns the values that all deployments of a group share: a route has one for all targets."""
    found: dict[str, float] = {}
    for name in ("temperature", "max_tokens"):
        said = {deployment.values.get(name) for deployment in deployments}
        (value, *others) = said
        if others:
            draft.skip(f"{where}.{name}", "its deployments differ; a route has one value for all")
        elif value is not None:
            found[name] = value
    return found
