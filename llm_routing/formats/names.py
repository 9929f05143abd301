"""Names of the wire formats: of their folders, in the registry, and in stored rows."""

from typing import Final

OPENAI_CHAT: Final = "openai_chat"
ANTHROPIC_MESSAGES: Final = "anthropic_messages"
OPENAI_EMBEDDINGS: Final = "openai_embeddings"
