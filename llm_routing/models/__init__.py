"""The tables: configuration (routing, access), records (usage, health), and the configuration's
version."""

from .access import ApiKey
from .breakers import BreakerReport, BreakerReset
from .health import HealthCheck, SweepLease
from .model_configs import CAPABILITY_LABELS, QUIRK_LABELS, ModelConfig
from .providers import Provider
from .routing import RouteTarget, UseCaseRoute
from .usage import UsageRecord
from .version import ConfigurationVersion

__all__ = [
    "CAPABILITY_LABELS",
    "QUIRK_LABELS",
    "ApiKey",
    "BreakerReport",
    "BreakerReset",
    "ConfigurationVersion",
    "HealthCheck",
    "ModelConfig",
    "Provider",
    "RouteTarget",
    "SweepLease",
    "UsageRecord",
    "UseCaseRoute",
]
