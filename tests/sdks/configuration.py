"""The rows of a gateway that answers the suites' requests. Runs in `manage.py shell`."""

from llm_routing.core.capabilities import Capability
from llm_routing.models import ModelConfig, Provider

from .suites import SUITES


def configure(sandbox_url: str, upstream: str) -> None:
    """Leads every model name of the suites to a provider of the format `upstream`; embeddings go
    to OpenAI's format, the only one that has them."""
    openai = Provider.objects.create(
        name="openai-format", vendor="vllm", base_url=f"{sandbox_url}/v1"
    )
    anthropic = Provider.objects.create(
        name="anthropic-format", vendor="anthropic", base_url=sandbox_url
    )
    anthropic.set_api_key("sk-ant-sandbox")
    anthropic.save()
    chat = anthropic if upstream == "anthropic_messages" else openai
    embeddings = {name for suite in SUITES for name in suite.embedding_models}
    for name in {name for suite in SUITES for name in suite.chat_models}:
        capabilities = sorted(set(Capability) - {Capability.EMBEDDINGS})
        add(chat, name, capabilities)
    for name in embeddings:
        add(openai, name, [Capability.EMBEDDINGS])


def add(provider: Provider, name: str, capabilities: list[Capability]) -> None:
    """A model that callers address by its bare name."""
    ModelConfig.objects.create(
        provider=provider, model_id=name, alias=name, capabilities=capabilities
    )
