"""`RouterConfig`: what a program may set when it asks for a router of its own."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from .types import ModelTier, UseCase


class RouterConfig(BaseModel):
    """Settings of one router, for programs that do not want the project's.

    None means: as settings have it. Raises `pydantic.ValidationError` for an unknown field or a
    bad value. Durations are in seconds.
    """

    # A key given under a name that is none must not stand in the error that says so.
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
