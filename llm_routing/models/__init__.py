"""The tables: configuration (routing, access), what happened (usage, health), and its version."""

from .access import ApiKey
from .health import HealthCheck
from .providers import Capability, ModelConfig, Provider
from .routing import RouteTarget, UseCaseRoute
from .usage import UsageRecord
from .version import ConfigurationVersion

__all__ = [
    "ApiKey",
    "Capability",
    "ConfigurationVersion",
    "HealthCheck",
    "ModelConfig",
    "Provider",
    "RouteTarget",
    "UsageRecord",
    "UseCaseRoute",
]
