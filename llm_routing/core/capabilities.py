"""What a model can do, as operators and catalogues state it and the planner asks for it."""

from enum import StrEnum


class Capability(StrEnum):
    """One ability of a model. A model that lists none is assumed to have all but PREFILL.

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
