"""Providers that this process's settings or environment keep out of use, with the remedy.

Other processes may have other settings and another environment, so none of it is written down.
"""

import os
from collections.abc import Iterable, Mapping

from llm_routing.conf import Settings
from llm_routing.core.addresses import check_base_url
from llm_routing.core.routing_table import RoutingTable
from llm_routing.models import Provider
from llm_routing.models.provenance import IMPORT, SET_UP, last_written_by
from llm_routing.vendors import VENDORS

from .credentials import find_key


def forbidden_addresses(table: RoutingTable, settings: Settings) -> Mapping[str, str]:
    """Returns why settings do not allow the base URL, by provider. A name is not resolved; the
    transport checks the addresses that it leads to."""
    reasons = {
        name: forbidden_address(spec.base_url, settings) for name, spec in table.providers.items()
    }
    return {name: reason for name, reason in reasons.items() if reason}


def forbidden_address(base_url: str, settings: Settings) -> str:
    """Returns why settings do not allow a base URL; empty if they do."""
    try:
        check_base_url(base_url, settings.allowed_upstream_networks)
    except ValueError as error:
        return str(error)
    return ""


def unused_keys(
    providers: Iterable[Provider], environ: Mapping[str, str] = os.environ
) -> Mapping[str, str]:
    """Returns the variable that holds a key, by provider, for inactive providers that a command
    created without a key. A provider that an operator deactivated is not among them. Raises
    `django.db.Error`."""
    found = {}
    for row in providers:
        vendor = VENDORS.get(row.vendor)
        if row.is_active or row.has_stored_key or vendor is None or not vendor.needs_key:
            continue
        if variable := find_key(row, environ).origin:
            found[row.pk] = (row.name, variable)
    waiting = last_written_by(Provider, {SET_UP, IMPORT}) if found else set()
    return {name: variable for pk, (name, variable) in found.items() if pk in waiting}


def unused_key_notice(provider: str, variable: str) -> str:
    """Returns a sentence for the operator about a key that is not used."""
    return (
        f"{variable} is set, but the provider {provider} is not active. Run "
        "setup_llm_configuration with the variable set, or activate it in the admin."
    )
