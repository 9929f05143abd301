"""A router as teams wrote it before: mappings in the source, a dictionary as a cache."""

import os
from dataclasses import dataclass, field
from enum import Enum

HOUSE_STYLE = "Write short sentences."
CHEAP = "openai/gpt-6-luna"
SUPPORT_API_KEY = "sk-live-0123456789abcdefSUPPORT"
TIMEOUTS = {"connect": 5, "read": 60}


class UseCase(Enum):
    CODE_GENERATION = "code_generation"
    DEBUGGING = "debugging"
    DOCUMENTATION = "documentation"
    TICKET_TRIAGE = "ticket-triage"


class ModelTier(Enum):
    PREMIUM = "premium"
    STANDARD = "standard"
    ECONOMY = "economy"
    LOCAL = "local"


@dataclass
class ModelMapping:
    primary_model: str
    tier: ModelTier
    fallback_models: list[str] = field(default_factory=list)
    max_tokens: int = 4096
    temperature: float = 0.7
    system_prompt: str | None = None
    top_p: float | None = None


class Router:
    MODEL_MAPPINGS: dict[UseCase, dict[ModelTier, ModelMapping]] = {  # noqa: RUF012
        UseCase.CODE_GENERATION: {
            ModelTier.PREMIUM: ModelMapping(
                primary_model="anthropic/claude-opus-5-5",
                tier=ModelTier.PREMIUM,
                fallback_models=["openai/gpt-6-astra", "google/gemini-4-argon"],
                max_tokens=8192,
                temperature=0.2,
                system_prompt="You write code that is finished. " + HOUSE_STYLE,
            ),
            ModelTier.ECONOMY: ModelMapping(CHEAP, ModelTier.ECONOMY, top_p=0.9),
        },
        UseCase.DEBUGGING: {
            ModelTier.STANDARD: ModelMapping(
                primary_model=os.getenv("DEBUG_MODEL", "anthropic/claude-sonnet-5-5"),
                tier=ModelTier.STANDARD,
                fallback_models=[CHEAP, "bedrock/anthropic.claude-v2"],
            ),
            ModelTier.LOCAL: ModelMapping("ollama/llama9", ModelTier.LOCAL),
        },
    }

    def __init__(self) -> None:
        self.cache: dict[str, str] = {}


Router.MODEL_MAPPINGS[UseCase.TICKET_TRIAGE] = {
    ModelTier.STANDARD: ModelMapping(
        "mistralai/mixtral-8x7b", ModelTier.STANDARD, temperature=float("0.1")
    )
}

raise SystemExit("this file must never run")
