"""`RouterConfig` rejects unknown fields, is immutable and hides its keys."""

from typing import Any

import pytest
from pydantic import ValidationError

from llm_routing.core.config import RouterConfig
from llm_routing.core.types import ModelTier


def test_by_default_all_values_come_from_settings() -> None:
    config = RouterConfig()
    said = config.model_dump(exclude={"default_use_case", "default_tier"})
    assert set(said.values()) == {None}
    assert (config.default_use_case, config.default_tier) == (
        "general_purpose",
        ModelTier.STANDARD,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"chache_ttl": 1},
        {"connection_pool_size": 0},
        {"connection_pool_size": 10_001},
        {"cache_ttl": -1},
        {"cache_max_size": -1},
        {"cache_memory_limit_mb": -1},
        {"health_check_interval": 0},
        {"default_tier": "golden"},
    ],
)
def test_unknown_fields_and_invalid_values_are_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RouterConfig(**fields)


def test_a_key_passed_under_a_wrong_name_is_not_in_the_error() -> None:
    fields: dict[str, Any] = {"portkey_key": "pk-secret"}
    with pytest.raises(ValidationError) as refused:
        RouterConfig(**fields)
    assert "portkey_key" in str(refused.value)
    assert "pk-secret" not in str(refused.value)


def test_it_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        RouterConfig().cache_ttl = 1  # type: ignore[misc]  # that is the point


def test_its_keys_are_not_shown() -> None:
    config = RouterConfig.model_validate({"openrouter_api_key": "sk-or-hunter2"})
    assert "hunter2" not in f"{config!r} {config} {config.model_dump_json()}"
    assert config.openrouter_api_key is not None
    assert config.openrouter_api_key.get_secret_value() == "sk-or-hunter2"
