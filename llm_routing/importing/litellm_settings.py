"""Reads the settings of LiteLLM's file: the fallbacks, and the sections without an equivalent.

Source: https://docs.litellm.ai/docs/proxy/config_settings
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .plan import Draft
from .text import names_secret, shown


@dataclass(frozen=True, slots=True)
class Links:
    """Fallbacks by group; `defaults` apply to every group, `longer` to prompts that are too long;
    `aliases` are other names of groups."""

    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    longer: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)


_SECTIONS: Final = ("router_settings", "litellm_settings", "general_settings")
SECTIONS: Final = frozenset({"model_list", *_SECTIONS})
"""A file with one of these top-level sections is LiteLLM's."""
_LINKS: Final = frozenset(
    {"fallbacks", "context_window_fallbacks", "default_fallbacks", "model_group_alias"}
)
_DEADLINE: Final = "set LLM_TOTAL_TIMEOUT, or deadlines at routes"
_LOGS: Final = "usage is in the usage records; callbacks are not supported"
_CACHE: Final = "see CACHE_TTL, CACHE_MAX_SIZE and REDIS_URL, and the route's cache lifetime"
_KEYS: Final = "create API keys with create_llm_key or in the admin"

_REASONS: Final[Mapping[str, str]] = {
    "allowed_fails": "circuit breakers are per provider and model",
    "cooldown_time": "circuit breakers are per provider and model",
    "disable_cooldowns": "circuit breakers are per provider and model",
    "num_retries": "retries follow from the route's targets and deadline",
    "max_retries": "retries follow from the route's targets and deadline",
    "max_fallbacks": "the targets of a route are explicit",
    "retry_policy": "the kinds of failures to retry are fixed",
    "retry_after": "the kinds of failures to retry are fixed",
    "allowed_fails_policy": "the kinds of failures to retry are fixed",
    "content_policy_fallbacks": "content that a vendor's policy rejects is not sent to "
    "another vendor",
    "timeout": _DEADLINE,
    "request_timeout": _DEADLINE,
    "stream_timeout": "set LLM_FIRST_TOKEN_TIMEOUT, or first_token_timeout at providers",
    "enable_pre_call_checks": "a model that lacks a required capability is always skipped",
    "redis_host": "see REDIS_URL",
    "redis_port": "see REDIS_URL",
    "redis_url": "see REDIS_URL",
    "redis_password": "see REDIS_URL",
    "callbacks": _LOGS,
    "success_callback": _LOGS,
    "failure_callback": _LOGS,
    "service_callback": _LOGS,
    "audit_log_callbacks": _LOGS,
    "cache": _CACHE,
    "cache_params": _CACHE,
    "cache_responses": _CACHE,
    "drop_params": "parameters that a model rejects (no_sampling) are left out for it",
    "guardrails": "guardrails are not supported",
    "max_budget": "a global budget is not supported",
    "budget_duration": "a global budget is not supported",
    "master_key": _KEYS,
    "custom_auth": _KEYS,
    "default_key_generate_params": _KEYS,
    "default_internal_user_params": _KEYS,
    "upperbound_key_generate_params": _KEYS,
    "database_url": "see DATABASE_URL",
    "store_model_in_db": "models are always in the database",
    "alerting": "alerts are not supported; scrape the metrics",
    "pass_through_endpoints": "pass-through requests are not supported",
    "set_verbose": "see Django's LOGGING",
    "json_logs": "see Django's LOGGING",
}
_TOP: Final[Mapping[str, str]] = {
    "guardrails": "guardrails are not supported",
    "mcp_servers": "MCP servers are not supported",
    "vector_store_registry": "vector stores are not supported",
    "prompts": "prompts are the system prompts of routes",
    "include": "included files are not read; import them one by one",
    "files_settings": "file storage is not supported",
    "finetune_settings": "fine-tuning is not supported",
    "search_tools": "search tools are not supported",
    "assistant_settings": "assistants are not supported",
}
_NO_PLACE: Final = "this setting has no equivalent"


def read_links(draft: Draft, document: Mapping[str, Any]) -> Links:
    """Reads fallbacks and aliases, from every section that may have them."""
    fallbacks: dict[str, tuple[str, ...]] = {}
    longer: dict[str, tuple[str, ...]] = {}
    defaults: list[str] = []
    aliases: dict[str, str] = {}
    for section in _SECTIONS:
        said = document.get(section)
        if not isinstance(said, dict):
            continue
        fallbacks |= _lists(draft, said.get("fallbacks"), f"{section}.fallbacks")
        longer |= _lists(
            draft, said.get("context_window_fallbacks"), f"{section}.context_window_fallbacks"
        )
        if isinstance(others := said.get("default_fallbacks"), list):
            defaults += map(str, others)
        if isinstance(names := said.get("model_group_alias"), dict):
            for name, group in names.items():
                if isinstance(group, dict):
                    draft.note(f"{section}.model_group_alias.{name}", "it is listed to callers")
                    group = group.get("model")
                aliases[name] = str(group)
    return Links(fallbacks, longer, tuple(defaults), aliases)


def _lists(draft: Draft, value: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Reads `[{"group": ["other", …]}, …]`, as LiteLLM writes it."""
    found: dict[str, tuple[str, ...]] = {}
    if value is None:
        return found
    for number, item in enumerate(value if isinstance(value, list) else [value]):
        if not isinstance(item, dict):
            draft.skip(f"{where}[{number}]", "this is not a group with a list of fallbacks")
            continue
        for group, others in item.items():
            names = others if isinstance(others, list) else [others]
            found[group] = tuple(name for name in names if isinstance(name, str))
            if len(found[group]) < len(names):
                draft.skip(
                    f"{where}[{number}].{group}",
                    "a fallback with its own parameters; a fallback must be a group",
                )
    return found


def list_sections(draft: Draft, document: Mapping[str, Any]) -> None:
    """Reports everything but models, groups and fallbacks, by name and never by value (`source`
    reports keys in clear text)."""
    for section, said in document.items():
        if section in ("model_list", "credential_list") or said in (None, [], {}):
            continue
        if section == "environment_variables" and isinstance(said, dict):
            for name in said:
                draft.skip(f"{section}.{name}", "set it in the environment of the server process")
        elif section in _SECTIONS and isinstance(said, dict):
            for name, value in said.items():
                if name not in _LINKS:
                    _setting(draft, f"{section}.{name}", name, value)
        else:
            draft.skip(section, _TOP.get(section, "this section has no equivalent"))


def _setting(draft: Draft, where: str, name: str, value: Any) -> None:
    if value in (None, [], {}):
        return
    if name == "routing_strategy":
        if value != "simple-shuffle":
            draft.skip(where, f"{shown(value)}: the load is always shared by weight")
        return
    reason = _REASONS.get(name)
    if reason is None:
        reason = "secrets are not imported" if names_secret(name) else _NO_PLACE
    draft.skip(where, reason)
