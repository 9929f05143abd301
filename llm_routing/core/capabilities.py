"""Capabilities of models, as operators and catalogues state them and the planner requires them."""

from enum import StrEnum


class Capability(StrEnum):
    """One ability of a model. A model that lists none is assumed to have all except PREFILL.

    PREFILL: it continues an answer that another model began.
    """

    CHAT = "chat"
    STREAMING = "streaming"
    TOOLS = "tools"
    VISION = "vision"
    JSON_SCHEMA = "json_schema"
    REASONING = "reasoning"
    EMBEDDINGS = "embeddings"
    PREFILL = "prefill"
