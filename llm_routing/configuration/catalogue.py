"""The models that setup creates for each provider, and the routes for each use case and tier.

Data only. `prices` has prices and context windows; `configure` decides what to write.
"""

from dataclasses import dataclass

from llm_routing.core.capabilities import Capability
from llm_routing.core.quirks import ModelQuirk
from llm_routing.core.types import ModelTier, UseCase

TEXT = frozenset({Capability.CHAT, Capability.STREAMING, Capability.TOOLS, Capability.REASONING})
TEXT_SCHEMA = TEXT | {Capability.JSON_SCHEMA}
VISION = TEXT_SCHEMA | {Capability.VISION}
SANDBOX_CHAT = VISION - {Capability.REASONING}
EMBEDDING = frozenset({Capability.EMBEDDINGS})
NO_SAMPLING = frozenset({ModelQuirk.NO_SAMPLING})


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A model to offer.

    `priced_as` is its provider and model in genai-prices; None means free of charge.
    `max_output_tokens` is set if it is documented for the model or its predecessor. `has_alias`:
    its plain identifier is an alias, so that an unchanged client works.
    """

    provider: str
    model_id: str
    display_name: str
    capabilities: frozenset[Capability]
    priced_as: tuple[str, str] | None
    max_output_tokens: int | None = None
    has_alias: bool = False
    quirks: frozenset[ModelQuirk] = frozenset()

    @property
    def key(self) -> str:
        """`provider/model_id`."""
        return f"{self.provider}/{self.model_id}"


@dataclass(frozen=True, slots=True)
class CatalogueRoute:
    """A use case in a tier: `targets` are models by key, in order; of `embeddings` only the first
    usable one is taken. `allowed_fields` are those of the route."""

    use_case: str
    tier: str
    system_prompt: str
    targets: tuple[str, ...]
    embeddings: tuple[str, ...] = ()
    allowed_fields: frozenset[str] = frozenset()


def _model(
    provider: str,
    model_id: str,
    display_name: str,
    capabilities: frozenset[Capability],
    *,
    quirks: frozenset[ModelQuirk] = frozenset(),
    max_output_tokens: int | None = None,
    has_alias: bool = False,
    priced_as: tuple[str, str] | None = None,
) -> CatalogueModel:
    return CatalogueModel(
        provider=provider,
        model_id=model_id,
        display_name=display_name,
        capabilities=capabilities,
        priced_as=priced_as or (provider, model_id),
        max_output_tokens=max_output_tokens,
        has_alias=has_alias,
        quirks=quirks,
    )


# OpenAI's reasoning models and Claude from Opus 4.7 and Sonnet 5 on reject temperature and top_p.
_OPENAI = tuple(
    _model(
        "openai",
        model_id,
        name,
        VISION,
        quirks=NO_SAMPLING,
        max_output_tokens=128_000,
        has_alias=True,
    )
    for model_id, name in (
        ("gpt-6-astra", "GPT-6 Astra"),
        ("gpt-6.1-sol", "GPT-6.1 Sol"),
        ("gpt-6.1-terra", "GPT-6.1 Terra"),
        ("gpt-6-luna", "GPT-6 Luna"),
    )
) + tuple(
    _model("openai", model_id, name, EMBEDDING, has_alias=True)
    for model_id, name in (
        ("text-embedding-3-small", "Text Embedding 3 Small"),
        ("text-embedding-3-large", "Text Embedding 3 Large"),
    )
)

_ANTHROPIC = tuple(
    _model(
        "anthropic",
        model_id,
        name,
        VISION,
        quirks=NO_SAMPLING,
        max_output_tokens=limit,
        has_alias=True,
    )
    for model_id, name, limit in (
        ("claude-fable-5-2", "Claude Fable 5.2", 128_000),
        ("claude-opus-5-5", "Claude Opus 5.5", 128_000),
        ("claude-sonnet-5-5", "Claude Sonnet 5.5", 128_000),
        ("claude-haiku-5-5", "Claude Haiku 5.5", 64_000),
    )
)

_GOOGLE = (
    *(
        _model("google", model_id, name, VISION, max_output_tokens=65_536, has_alias=True)
        for model_id, name in (
            ("gemini-4-argon", "Gemini 4 Argon"),
            ("gemini-3.8-flash", "Gemini 3.8 Flash"),
            ("gemini-3.5-flash-lite", "Gemini 3.5 Flash-Lite"),
        )
    ),
    _model("google", "gemini-embedding-2", "Gemini Embedding 2", EMBEDDING, has_alias=True),
)

_OTHERS = (
    _model("mistral", "mistral-large-4", "Mistral Large 4", VISION),
    _model("mistral", "mistral-medium-3-5", "Mistral Medium 3.5", VISION),
    _model("mistral", "mistral-small-2603", "Mistral Small 4", VISION),
    _model("mistral", "mistral-embed", "Mistral Embed", EMBEDDING),
    _model("deepseek", "deepseek-v4-pro", "DeepSeek V4 Pro", TEXT),
    _model("deepseek", "deepseek-flash", "DeepSeek V4.1 Flash", TEXT | {Capability.VISION}),
    _model("together", "moonshotai/Kimi-K3.1-Pro", "Kimi K3.1 Pro", TEXT_SCHEMA),
    _model("together", "zai-org/GLM-5.3", "GLM-5.3", TEXT_SCHEMA),
    _model("together", "Qwen/Qwen3.8-Flash", "Qwen3.8 Flash", TEXT_SCHEMA),
    _model("groq", "openai/gpt-oss-120b", "GPT-OSS 120B", TEXT_SCHEMA),
    _model("groq", "openai/gpt-oss-20b", "GPT-OSS 20B", TEXT_SCHEMA),
    _model(
        "openrouter", "anthropic/claude-opus-5.5", "Claude Opus 5.5", VISION, quirks=NO_SAMPLING
    ),
    _model("openrouter", "openai/gpt-6.1-sol", "GPT-6.1 Sol", VISION, quirks=NO_SAMPLING),
    _model("openrouter", "google/gemini-3.8-flash", "Gemini 3.8 Flash", VISION),
    _model(
        "openrouter", "anthropic/claude-haiku-5.5", "Claude Haiku 5.5", VISION, quirks=NO_SAMPLING
    ),
)

# `@integration/model`: Portkey's default name of an integration.
_PORTKEY = tuple(
    _model(
        "portkey",
        f"@{vendor}/{model_id}",
        name,
        VISION,
        quirks=NO_SAMPLING,
        priced_as=(vendor, model_id),
    )
    for vendor, model_id, name in (
        ("anthropic", "claude-opus-5-5", "Claude Opus 5.5"),
        ("openai", "gpt-6.1-sol", "GPT-6.1 Sol"),
        ("openai", "gpt-6-luna", "GPT-6 Luna"),
    )
)

_SANDBOX = (
    *(
        CatalogueModel("sandbox", f"sandbox-{tier}", f"Sandbox {tier}", SANDBOX_CHAT, None)
        for tier in ModelTier
    ),
    CatalogueModel("sandbox", "sandbox-embedding", "Sandbox embedding", EMBEDDING, None),
)

MODELS: tuple[CatalogueModel, ...] = (
    *_OPENAI,
    *_ANTHROPIC,
    *_GOOGLE,
    *_OTHERS,
    *_PORTKEY,
    *_SANDBOX,
)

# The chat models of each vendor for premium, standard and economy, in the order of fallback. Every
# vendor that needs a key has a row, so that any single key is enough.
_CHAT_MODELS = {
    "anthropic": ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"),
    "openai": ("gpt-6-astra", "gpt-6.1-sol", "gpt-6-luna"),
    "google": ("gemini-4-argon", "gemini-3.8-flash", "gemini-3.5-flash-lite"),
    "mistral": ("mistral-large-4", "mistral-medium-3-5", "mistral-small-2603"),
    "deepseek": ("deepseek-v4-pro", "deepseek-flash", "deepseek-flash"),
    "together": ("moonshotai/Kimi-K3.1-Pro", "zai-org/GLM-5.3", "Qwen/Qwen3.8-Flash"),
    "groq": ("openai/gpt-oss-120b", "openai/gpt-oss-120b", "openai/gpt-oss-20b"),
    "openrouter": (
        "anthropic/claude-opus-5.5",
        "openai/gpt-6.1-sol",
        "anthropic/claude-haiku-5.5",
    ),
    "portkey": ("@anthropic/claude-opus-5-5", "@openai/gpt-6.1-sol", "@openai/gpt-6-luna"),
    "sandbox": ("sandbox-premium", "sandbox-standard", "sandbox-economy"),
}

# The first three vendors of each use case; the others follow in the order above.
_FIRST_VENDORS = {
    UseCase.CODE_GENERATION: ("anthropic", "openai", "google"),
    UseCase.ARCHITECTURE_DESIGN: ("anthropic", "openai", "google"),
    UseCase.DEBUGGING: ("anthropic", "openai", "google"),
    UseCase.DOCUMENTATION: ("anthropic", "google", "openai"),
    UseCase.CHAT_CONVERSATION: ("openai", "anthropic", "google"),
    UseCase.MEMORY_PROCESSING: ("google", "openai", "anthropic"),
    UseCase.WORKFLOW_ORCHESTRATION: ("anthropic", "openai", "google"),
    UseCase.GENERAL_PURPOSE: ("openai", "anthropic", "google"),
}

# No temperature and no max_tokens: these models reject temperature or work best without it, and
# max_tokens would cut off their reasoning along with the answer.
_SYSTEM_PROMPTS = {
    UseCase.CODE_GENERATION: (
        "You are an experienced software engineer. Write complete, working code in the language "
        "and style of the request, handle errors and edge cases, and keep to what was asked. "
        "State an assumption only where the request leaves it open."
    ),
    UseCase.ARCHITECTURE_DESIGN: (
        "You are a software architect. Compare the realistic options, recommend one, and say what "
        "it costs, where it fails and how it can be changed later. Prefer the simplest design that "
        "meets the stated needs."
    ),
    UseCase.DEBUGGING: (
        "You are debugging. Find the root cause from the evidence given, name it plainly, and give "
        "the smallest fix and a way to verify it. Where the evidence is not enough, say what to "
        "look at next instead of guessing."
    ),
    UseCase.DOCUMENTATION: (
        "You write technical documentation. Be exact, brief and complete, in plain words, with an "
        "example where it helps. Document only what the material shows."
    ),
    UseCase.CHAT_CONVERSATION: (
        "You are a helpful assistant. Answer in the user's language, directly and in a natural "
        "tone, and ask when a question can be understood in several ways."
    ),
    UseCase.MEMORY_PROCESSING: (
        "You condense information for later use. Keep names, numbers, dates, decisions and open "
        "questions exactly as given, drop repetition, and add nothing."
    ),
    UseCase.WORKFLOW_ORCHESTRATION: (
        "You plan and carry out workflows of several steps. Use the tools you are given, one "
        "justified call at a time, check each result before the next step, and stop with a clear "
        "report when a step cannot be done."
    ),
    UseCase.GENERAL_PURPOSE: "",
}

_EMBEDDINGS = (
    "openai/text-embedding-3-small",
    "google/gemini-embedding-2",
    "mistral/mistral-embed",
    "sandbox/sandbox-embedding",
)
_EMBEDDING_USE_CASES = frozenset({UseCase.GENERAL_PURPOSE, UseCase.MEMORY_PROCESSING})


def _route(use_case: UseCase, tier: ModelTier) -> CatalogueRoute:
    first = _FIRST_VENDORS[use_case]
    vendors = (*first, *(vendor for vendor in _CHAT_MODELS if vendor not in first))
    position = list(ModelTier).index(tier)
    return CatalogueRoute(
        use_case=use_case.value,
        tier=tier.value,
        system_prompt=_SYSTEM_PROMPTS[use_case],
        targets=tuple(f"{vendor}/{_CHAT_MODELS[vendor][position]}" for vendor in vendors),
        embeddings=_EMBEDDINGS if use_case in _EMBEDDING_USE_CASES else (),
    )


ROUTES: tuple[CatalogueRoute, ...] = tuple(
    _route(use_case, tier) for use_case in UseCase for tier in ModelTier
)
