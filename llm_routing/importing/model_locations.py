"""Finds the vendor, base URL and key of a model from the name that other routers use.

Names of LiteLLM's providers: https://docs.litellm.ai/docs/providers
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from llm_routing.models.fields import api_key_variable
from llm_routing.vendors import VENDORS

from .plan import Draft, PlannedProvider
from .text import is_placeholder, looks_secret, shown, variable

OWN_SERVER: Final = "vllm"


class Unmappable(Exception):
    """The model or address has no equivalent; the message says why."""


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """A model at a vendor. `title` names the provider; `base_url` and `api_key_env` are set for an
    OpenAI-compatible service that is not in `vendors`."""

    vendor: str
    model_id: str
    title: str
    base_url: str = ""
    api_key_env: str = ""


_SYNONYMS: Final[Mapping[str, str]] = {
    "gemini": "google",
    "google_ai_studio": "google",
    "google-ai-studio": "google",
    "togetherai": "together",
    "together_ai": "together",
    "mistral_ai": "mistral",
    "mistral-ai": "mistral",
    "ollama_chat": "ollama",
    "open_router": "openrouter",
    "hosted_vllm": OWN_SERVER,
    "lm_studio": OWN_SERVER,
    "llamafile": OWN_SERVER,
    "openai_like": OWN_SERVER,
    "custom_openai": OWN_SERVER,
}

# OpenAI-compatible services without a row in `vendors`.
COMPATIBLE_SERVICES: Final[Mapping[str, tuple[str, str]]] = {
    "cerebras": ("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "deepinfra": ("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "fireworks_ai": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "moonshot": ("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    "nvidia_nim": ("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "perplexity": ("https://api.perplexity.ai", "PERPLEXITY_API_KEY"),
    "sambanova": ("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
}

# Author names that only OpenRouter uses.
_OPENROUTER_AUTHORS: Final = frozenset(
    {"ai21", "amazon", "arcee-ai", "inflection", "meta-llama", "microsoft", "minimax", "mistralai",
     "moonshotai", "nousresearch", "nvidia", "qwen", "thudm", "x-ai", "z-ai"}
)  # fmt: skip

# Vendors whose model names may start with another vendor's name.
_RELAYS: Final = frozenset({"openrouter", "portkey", "together", "groq", "ollama", OWN_SERVER})

_FAMILIES: Final = (
    (re.compile(r"(?:gpt|chatgpt|text-embedding|o[1-9])(?:-|$)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"gemini-"), "google"),
    (re.compile(r"(?:open-)?(?:mistral|mixtral|codestral|ministral|magistral|devstral|pixtral)-"),
     "mistral"),
    (re.compile(r"deepseek-"), "deepseek"),
    (re.compile(r"sandbox-"), "sandbox"),
)  # fmt: skip


def location_of(written: str, provider: str = "", through: str = "") -> ModelLocation:
    """Returns the location of a model from its name in a file, with or without a provider.
    `through` is the vendor that serves every name of the form author/model. Raises `Unmappable`."""
    written = written.strip()
    if not written or len(written) > 200 or not written.isprintable() or " " in written:
        raise Unmappable("this is not a model name")
    if looks_secret(written):
        raise Unmappable("this looks like a key, not a model")
    if provider:
        return _at(provider, _without_provider(written, provider))
    if written.startswith("@"):
        return ModelLocation("portkey", written, "portkey")
    author, slash, rest = written.partition("/")
    if not slash:
        return _by_family(written)
    if through and _vendor(author) != through:
        return ModelLocation(through, written, through)
    if author in _OPENROUTER_AUTHORS:
        return ModelLocation("openrouter", written, "openrouter")
    return _at(author, rest)


def _vendor(name: str) -> str:
    name = name.strip().lower()
    return _SYNONYMS.get(name, name)


def _at(provider: str, model_id: str) -> ModelLocation:
    name = _vendor(provider)
    if not model_id:
        raise Unmappable("there is no model after the slash")
    if name in VENDORS:
        return ModelLocation(name, model_id, name)
    if name in COMPATIBLE_SERVICES:
        base_url, api_key_env = COMPATIBLE_SERVICES[name]
        return ModelLocation(OWN_SERVER, model_id, name.replace("_", "-"), base_url, api_key_env)
    raise Unmappable(
        f"there is no vendor {shown(provider)} here; known: {', '.join(VENDORS)}. If it speaks "
        f"OpenAI's format, make a provider of vendor {OWN_SERVER} with its base URL"
    )


def _without_provider(written: str, provider: str) -> str:
    """Returns `gpt-5` for `openai/gpt-5` with the provider openai. Names of a relay's models may
    start with another vendor's name, or the relay's own (`openrouter/auto`)."""
    author, slash, rest = written.partition("/")
    name = _vendor(provider)
    return rest if slash and name not in _RELAYS and _vendor(author) == name else written


def _by_family(model_id: str) -> ModelLocation:
    for family, vendor in _FAMILIES:
        if family.match(model_id):
            return ModelLocation(vendor, model_id, vendor)
    raise Unmappable("its name does not include the provider; write provider/model")


def provider_for(
    draft: Draft, location: ModelLocation, where: str, *, base_url: str = "", api_key: object = None
) -> str:
    """Returns the name of the provider that serves `location` from `base_url` with `api_key`, both
    as the file writes them, and adds the provider to the draft if it is new.

    Raises `Unmappable` if the address cannot be determined.
    """
    vendor, address = location.vendor, _address(draft, location, where, base_url)
    if address and vendor in ("openai", OWN_SERVER):
        # LiteLLM uses `openai/…` with an address for every OpenAI-compatible server.
        vendor = _owner(address) or OWN_SERVER
    row = VENDORS[vendor]
    if address.rstrip("/") == row.base_url.rstrip("/"):
        address = ""
    env = location.api_key_env if address else ""
    secret = None
    if name := variable(api_key):
        env = "" if name == row.api_key_env else _usable(draft, name, vendor, address, where)
    elif isinstance(api_key, str) and not is_placeholder(api_key):
        secret = SecretStr(api_key.strip())
    found = PlannedProvider("", vendor, address, env, secret)
    for known in draft.providers.values():
        if (known.vendor, known.base_url, known.api_key_env, known.secret) == (
            found.vendor, found.base_url, found.api_key_env, found.secret,
        ):  # fmt: skip
            return known.name
    name = _name(
        draft, location if vendor == location.vendor else ModelLocation(vendor, "", vendor), found
    )
    draft.providers[name] = PlannedProvider(name, vendor, address, env, secret)
    return name


def _address(draft: Draft, location: ModelLocation, where: str, base_url: str) -> str:
    if not base_url:
        return location.base_url
    if name := variable(base_url):
        base_url = draft.environ.get(name, "")
        if not base_url:
            raise Unmappable(f"its address is in {shown(name)}, which is not set here")
        draft.note(where, f"the address is the current value of {shown(name)}")
    address = base_url.strip().rstrip("/")
    if location.vendor == "ollama" and not address.endswith("/v1"):
        return f"{address}/v1"
    if location.vendor == "anthropic":
        return address.removesuffix("/v1")
    return address


def _owner(address: str) -> str:
    """Returns the vendor that owns the host of an address."""
    host = _host(address)
    for row in VENDORS.values():
        own = _host(row.base_url)
        if not row.is_local and (host == own or host.endswith(f".{own}")):
            return row.name
    return ""


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _usable(draft: Draft, name: str, vendor: str, address: str, where: str) -> str:
    """Returns the variable if a provider there may name it, and otherwise lists why not; unless
    nothing is lost, because the vendor needs no key and the variable holds none."""
    row = VENDORS[vendor]
    reason = _why_not_named(name, address or row.base_url)
    if not reason:
        return name
    is_lost = not is_placeholder(draft.environ.get(name, ""))
    if row.needs_key or (is_lost and not row.is_sandbox):
        draft.skip(where, reason)
    return ""


def _why_not_named(name: str, address: str) -> str:
    """Returns why a provider at an address must not name the variable; empty if it may."""
    if not re.fullmatch(api_key_variable.regex, name) or len(name) > 128:
        return (
            f"the key is in {shown(name)}, but a key's variable must have API_KEY in "
            "its name: rename it and set it at the provider"
        )
    for row in VENDORS.values():
        if name in row.api_key_envs and not row.is_own_host(address):
            return (
                f"{name} holds a key of {row.title}, and this address is not that "
                "vendor's: the key would be sent to it. Give the provider a separate "
                "variable"
            )
    return ""


def _name(draft: Draft, location: ModelLocation, found: PlannedProvider) -> str:
    """Returns a name that does not depend on other entries of the file."""
    parts = [location.title]
    if found.api_key_env and found.api_key_env != location.api_key_env:
        own = {*VENDORS[found.vendor].api_key_env.lower().split("_"), "api", "key"}
        parts += [part for part in found.api_key_env.lower().split("_") if part not in own]
    if found.base_url and found.base_url != location.base_url and len(parts) == 1:
        parts.append(urlsplit(found.base_url).netloc.rpartition("@")[2])
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", "-".join(parts)).strip("-")[:56]
    name, number = stem, 2
    while name in draft.providers:
        name, number = f"{stem}-{number}", number + 1
    return name
