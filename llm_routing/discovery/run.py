"""A complete discovery: selects providers, reads their lists, and writes the result.

The composition root supplies the transport.
"""

from collections.abc import Collection, Mapping, Sequence

from asgiref.sync import sync_to_async
from django.utils import timezone

from llm_routing.conf import get_settings
from llm_routing.configuration.credentials import load_credentials
from llm_routing.core.errors import UpstreamError
from llm_routing.core.ports import Credential, CredentialStore, Transport
from llm_routing.core.routing_table import RoutingTable
from llm_routing.models import Provider
from llm_routing.vendors import VENDORS

from .fetch import ListSource, ModelList, read_lists
from .lists import offered_models
from .record import record
from .report import DiscoveryReport, ProviderReport


class UnknownProvider(ValueError):
    """No provider has this name; the message lists the known ones."""


async def discover(
    transport: Transport,
    providers: Collection[str] = (),
    *,
    overrides: Mapping[str, Credential] | None = None,
    dry_run: bool = False,
) -> DiscoveryReport:
    """Reads and records the list of every active provider, or of the named ones, active or not.

    `overrides` are credentials by vendor that take precedence over the configuration. A provider
    that fails is in the report and does not stop the others. Raises `UnknownProvider`,
    `django.db.Error`.
    """
    sources, misfits = await sync_to_async(_sources)(providers, overrides or {})
    lists = {**await read_lists(transport, sources), **misfits}
    return await sync_to_async(record)(lists, now=timezone.now(), dry_run=dry_run)


async def compare(
    transport: Transport,
    table: RoutingTable,
    credentials: CredentialStore,
    providers: Collection[str] = (),
) -> DiscoveryReport:
    """Like `discover`, for a configuration that cannot be written: `added` are offered models
    without a route, `vanished` are routed models that are not offered. Raises `UnknownProvider`."""
    _check(providers, tuple(table.providers))
    sources = [
        ListSource(
            provider=spec.name,
            vendor=VENDORS[spec.vendor],
            base_url=spec.base_url,
            credential=credentials.get(spec.name),
            connect_timeout=spec.connect_timeout or get_settings().connect_timeout,
            max_connections=spec.max_connections,
        )
        for spec in table.providers.values()
        if not providers or spec.name in providers
    ]
    lists = await read_lists(transport, sources)
    reports = tuple(_compared(name, found, table) for name, found in lists.items())
    return DiscoveryReport(reports, is_recorded=False)


def _compared(name: str, found: ModelList | UpstreamError, table: RoutingTable) -> ProviderReport:
    if isinstance(found, UpstreamError):
        return ProviderReport(name, error=found.code, message=found.message)
    known = {model.model_id for model in table.models.values() if model.provider == name}
    offered = tuple(model.model_id for model in found.models)
    offer = offered_models(found.models)
    return ProviderReport(
        provider=name,
        models=offered,
        added=tuple(model_id for model_id in offered if model_id not in known),
        vanished=tuple(sorted(name for name in known if not offer.has(name)))
        if found.is_complete
        else (),
        unreadable=found.unreadable,
        is_complete=found.is_complete,
    )


def _sources(
    names: Collection[str], overrides: Mapping[str, Credential]
) -> tuple[list[ListSource], dict[str, UpstreamError]]:
    """Returns the providers to query, and those that cannot be queried."""
    rows = list(Provider.objects.order_by("priority", "name"))
    _check(names, [row.name for row in rows])
    chosen = [row for row in rows if (row.name in names if names else row.is_active)]
    credentials = load_credentials(row for row in chosen if row.vendor in VENDORS)
    connect_timeout = get_settings().connect_timeout
    sources, misfits = [], {}
    for row in chosen:
        vendor = VENDORS.get(row.vendor)
        if vendor is None:
            misfits[row.name] = UpstreamError("The provider has an unknown vendor.")
            continue
        source = ListSource(
            provider=row.name,
            vendor=vendor,
            base_url=get_settings().provider_base_url(vendor, row.base_url),
            credential=overrides.get(row.vendor) or credentials.get(row.name),
            connect_timeout=row.connect_timeout or connect_timeout,
            max_connections=row.max_connections,
        )
        sources.append(source)
    return sources, misfits


def _check(names: Collection[str], known: Sequence[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UnknownProvider(
            f"There is no provider {', '.join(unknown)}. Known: {', '.join(known) or 'none'}."
        )
