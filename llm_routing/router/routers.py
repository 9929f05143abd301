"""The two routers: over the built-in routes, and over the configuration in the database."""

from collections.abc import Mapping

from llm_routing.core.ports import Credential
from llm_routing.discovery.report import DiscoveryReport
from llm_routing.discovery.run import compare, discover

from .base import BaseLLMRouter
from .parts import RouterParts


class StaticLLMRouter(BaseLLMRouter):
    """Works from built-in mappings, without a database."""

    async def discover_available_models(
        self, *providers: str, dry_run: bool = False
    ) -> DiscoveryReport:
        """Returns the models that the providers offer besides the built-in ones; writes nothing.
        Raises `UnknownProvider`."""
        self._check_open()
        parts = self._parts
        return await compare(parts.transport, self.table, parts.credentials, providers)


class DynamicLLMRouter(BaseLLMRouter):
    """Works from the models that operators edit; changes apply from the next request on.

    `overrides` are credentials by vendor; they take precedence over the configuration.
    """

    def __init__(self, parts: RouterParts, overrides: Mapping[str, Credential]) -> None:
        super().__init__(parts)
        self._overrides = overrides

    async def discover_available_models(
        self, *providers: str, dry_run: bool = False
    ) -> DiscoveryReport:
        """Reads the providers' model lists, adds new models as inactive rows and marks models that
        have vanished; with `dry_run` it writes nothing. Raises `UnknownProvider` or
        `django.db.Error`."""
        self._check_open()
        return await discover(
            self._parts.transport, providers, overrides=self._overrides, dry_run=dry_run
        )
