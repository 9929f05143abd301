"""Lists the addresses that callers can use, in the shape of OpenAI's and Anthropic's model lists.

Use cases, use cases with a tier, models and aliases are all listed: each may be sent as `model`.
The native lists are in `native`.
"""

from typing import Any

from django.http import QueryDict

from llm_routing.core.errors import InvalidRequest, UnknownModel
from llm_routing.core.planner import inactive_reason
from llm_routing.core.routing_table import RoutingTable

OWNER = "llm_routing"
MAX_PAGE_SIZE = 1000
_EPOCH = "1970-01-01T00:00:00Z"
_ACTIVE = "active"
_LIFECYCLES = (_ACTIVE, "deprecated", "retired")


def addresses(table: RoutingTable) -> dict[str, tuple[str, str]]:
    """Returns every valid value of `model`, with its owner and display name."""
    found: dict[str, tuple[str, str]] = {}
    for use_case, tiers in sorted(table.use_cases.items()):
        found[use_case] = (OWNER, use_case)
        for tier in tiers:
            found[f"{use_case}:{tier}"] = (OWNER, f"{use_case}, {tier}")
    for key, model in sorted(table.models.items()):
        name = model.display_name or model.model_id
        found.setdefault(key, (model.provider, name))
        if model.alias:
            found.setdefault(model.alias, (model.provider, name))
    return found


def find(table: RoutingTable, address: str) -> tuple[str, str]:
    """Returns owner and name of one address. Raises `UnknownModel`, which lists the known ones."""
    known = addresses(table)
    if address not in known:
        if reason := inactive_reason(table, address):
            raise UnknownModel(reason, known=tuple(known))
        shown = address if len(address) <= 80 else address[:80] + "…"
        use_cases = ", ".join(sorted(table.use_cases)) or "none yet"
        raise UnknownModel(
            f"There is no model or use case {shown!r}. Use cases: {use_cases}. GET /v1/models "
            "lists everything.",
            known=tuple(known),
        )
    return known[address]


def openai_model(address: str, owner: str) -> dict[str, Any]:
    """https://platform.openai.com/docs/api-reference/models/object"""
    return {"id": address, "object": "model", "created": 0, "owned_by": owner}


def openai_list(table: RoutingTable) -> dict[str, Any]:
    """https://platform.openai.com/docs/api-reference/models/list"""
    data = [openai_model(address, owner) for address, (owner, _) in addresses(table).items()]
    return {"object": "list", "data": data}


def anthropic_model(address: str, name: str) -> dict[str, Any]:
    """https://platform.claude.com/docs/en/api/models/retrieve"""
    return {
        "type": "model",
        "id": address,
        "display_name": name,
        "created_at": _EPOCH,
        "lifecycle": _ACTIVE,
    }


def anthropic_list(table: RoutingTable, query: QueryDict) -> dict[str, Any]:
    """Returns one page (`limit`, `after_id`, `before_id`, `lifecycle[]`) of
    https://platform.claude.com/docs/en/api/models/list; without a limit, a page of the maximum
    size. An empty ID, or the ID of a model that is gone, is ignored. Raises `InvalidRequest`."""
    found = []
    if _wants_active(query):
        found = [anthropic_model(address, name) for address, (_, name) in addresses(table).items()]
    places = {model["id"]: place for place, model in enumerate(found)}
    limit = _limit(query.get("limit"))
    end = places.get(query.get("before_id", ""))
    if end is not None:
        page, has_more = found[max(end - limit, 0) : end], end > limit
    else:
        start = places.get(query.get("after_id", ""), -1) + 1
        page, has_more = found[start : start + limit], start + limit < len(found)
    return {
        "data": page,
        "has_more": has_more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _wants_active(query: QueryDict) -> bool:
    """Returns whether the list includes active models; all of ours are active."""
    wanted = query.getlist("lifecycle[]") or query.getlist("lifecycle")
    if any(lifecycle not in _LIFECYCLES for lifecycle in wanted):
        known = ", ".join(_LIFECYCLES)
        raise InvalidRequest(f"lifecycle must be one of {known}.", field="lifecycle")
    return not wanted or _ACTIVE in wanted


def _limit(given: str | None) -> int:
    if given is None:
        return MAX_PAGE_SIZE
    is_number = given.isascii() and given.isdigit() and len(given) <= len(str(MAX_PAGE_SIZE))
    if not is_number or not 1 <= int(given) <= MAX_PAGE_SIZE:
        raise InvalidRequest(f"limit must be a number from 1 to {MAX_PAGE_SIZE}.", field="limit")
    return int(given)
