"""The test suites of official clients that run through the gateway."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suite:
    """Tests that run together: those of a client's sdist whose resources the gateway serves, or
    tests of ours."""

    name: str
    """The client's distribution, or the subject of tests of ours."""
    base_path: str
    """What the client's base URL has after the gateway's address."""
    files: tuple[str, ...]
    """Below `tests/api_resources` of the sdist."""
    chat_models: tuple[str, ...]
    """The names that the tests send as `model`; the gateway gets an alias for each."""
    embedding_models: tuple[str, ...] = ()
    is_ours: bool = False
    """The tests are ours, and `files` are below `tests/sdks/clients`."""


SUITES = (
    Suite(
        "openai",
        "/v1",
        ("chat/test_completions.py", "test_embeddings.py", "test_models.py"),
        chat_models=("gpt-6-astra",),
        embedding_models=("text-embedding-3-small",),
    ),
    Suite(
        "anthropic",
        "",
        ("test_messages.py", "beta/test_messages.py", "test_models.py", "beta/test_models.py"),
        chat_models=(
            "claude-opus-5-5",
            "model_id",
            # `anthropic.resources.messages.DEPRECATED_MODELS`
            "claude-mythos-preview",
            "claude-opus-4-5",
            "claude-opus-4-5-20251101",
            "claude-sonnet-4-5",
            "claude-sonnet-4-5-20250929",
        ),
    ),
    Suite(
        "mistralai",
        "",
        ("mistralai_client.py",),
        chat_models=("mistral-large-latest",),
        embedding_models=("mistral-embed",),
        is_ours=True,
    ),
    Suite(
        "cerebras-cloud-sdk",
        "",
        ("chat/test_completions.py", "test_models.py"),
        chat_models=("gpt-oss-120b", "model_id"),
    ),
    Suite("streams", "", ("streams_client.py",), chat_models=(), is_ours=True),
)
