"""The wire formats by name, which is also the name of their folder.

A provider's row names the format of its completions. Its embedding format is found under the same
name, because vendors offer both at one base URL.
"""

from collections.abc import Mapping

from .anthropic_messages.wire_format import AnthropicMessages
from .base import EmbeddingFormat, WireFormat
from .openai_chat.wire_format import OpenAIChat
from .openai_embeddings.wire_format import OpenAIEmbeddings

FORMATS: Mapping[str, WireFormat] = {
    wire_format.name: wire_format for wire_format in (OpenAIChat(), AnthropicMessages())
}

EMBEDDING_FORMATS: Mapping[str, EmbeddingFormat] = {OpenAIChat.name: OpenAIEmbeddings()}
