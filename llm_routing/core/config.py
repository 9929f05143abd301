"""`RouterConfig`: the settings of a router that a program creates for itself."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from .types import ModelTier, UseCase


class RouterConfig(BaseModel):
    """Settings of one router that differ from the project's.

    None means: use the project's setting. Raises `pydantic.ValidationError` for an unknown field or
    an invalid value. Durations are in seconds.
    """

    # An API key passed under an unknown name must not appear in the error message.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    portkey_api_key: SecretStr | None = None
    portkey_config: str | None = Field(default=None, repr=False)
    openrouter_api_key: SecretStr | None = None
    or_site_url: str | None = None
    or_app_name: str | None = None
    connection_pool_size: int | None = Field(default=None, ge=1, le=10_000)
    cache_ttl: int | None = Field(default=None, ge=0)
    cache_max_size: int | None = Field(default=None, ge=0)
    cache_memory_limit_mb: int | None = Field(default=None, ge=0)
    health_check_interval: float | None = Field(default=None, gt=0)
    enable_monitoring: bool | None = None
    default_use_case: str = UseCase.GENERAL_PURPOSE.value
    default_tier: ModelTier = ModelTier.STANDARD
