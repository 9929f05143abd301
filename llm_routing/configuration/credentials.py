"""Credentials of providers: headers built once from the environment or from a stored key.

Never logged or shown in an error or repr. `vendors` defines how a vendor reads a key.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from llm_routing.conf import Settings, get_settings
from llm_routing.core.ports import Credential
from llm_routing.crypto.at_rest import SecretUnreadable, decrypt
from llm_routing.models import Provider
from llm_routing.vendors import VENDORS, Vendor

logger = logging.getLogger(__name__)

STORED = "stored"


class HeaderCredential:
    """Prebuilt headers whose repr shows nothing. `origin` is the source of the key, as in
    `ProviderKey`."""

    __slots__ = ("headers", "origin")

    def __init__(self, headers: Mapping[str, str], origin: str = "") -> None:
        self.headers: Mapping[str, str] = MappingProxyType(dict(headers))
        self.origin = origin

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class ProviderCredentials:
    """A `CredentialStore` over a fixed set of credentials by provider name."""

    __slots__ = ("__weakref__", "_by_provider")

    def __init__(self, by_provider: Mapping[str, Credential]) -> None:
        self._by_provider = dict(by_provider)

    def get(self, provider: str) -> Credential | None:
        """Returns the provider's credential; None if it needs one and has none."""
        return self._by_provider.get(provider)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._by_provider)} providers>"


def load_credentials(
    providers: Iterable[Provider],
    *,
    environ: Mapping[str, str] = os.environ,
    settings: Settings | None = None,
) -> ProviderCredentials:
    """Returns the credentials of `providers`. A key that cannot be decrypted is logged with the
    provider's name and counts as missing, so that one bad row does not affect the others."""
    values = setting_values(settings or get_settings())
    found = {}
    for provider in providers:
        vendor = VENDORS.get(provider.vendor)
        if vendor is None:
            logger.error("Provider %s has an unknown vendor.", provider.name)
            continue
        key = find_key(provider, environ)
        credential = build_credential(
            vendor, key.value, values, origin=key.origin, is_at_vendor=provider.is_at_vendor
        )
        if credential is not None:
            found[provider.name] = credential
    return ProviderCredentials(found)


def build_credential(
    vendor: Vendor,
    api_key: str,
    setting_values: Mapping[str, str],
    *,
    origin: str = "",
    is_at_vendor: bool = True,
) -> Credential | None:
    """Returns the headers for a vendor with `api_key`; None if it needs a key and this is empty.

    `setting_values` holds settings by name, for the vendor's `setting_headers`. They are secrets
    for the vendor's own host, so they are omitted unless the provider `is_at_vendor`. A value that
    an HTTP header cannot contain (line breaks, quotation marks) counts as missing and is logged.
    """
    if not _fits_key(api_key):
        logger.error("The API key for %s has characters that are not valid in a key.", vendor.title)
        return None
    if vendor.needs_key and not api_key:
        return None
    from_settings = {}
    for header, name in vendor.setting_headers.items() if is_at_vendor else ():
        value = setting_values.get(name, "")
        if not fits_header(value):
            logger.error("%s has characters that HTTP headers cannot contain.", name.upper())
        elif value:
            from_settings[header] = value
    headers = {**vendor.headers, **from_settings, **vendor.auth.headers(api_key)}
    return HeaderCredential(headers, origin)


def fits_header(value: str) -> bool:
    """Returns whether an HTTP header can contain `value`."""
    return value.isascii() and value.isprintable()


def _fits_key(value: str) -> bool:
    return fits_header(value) and " " not in value


def unusable_variables(environ: Mapping[str, str] = os.environ) -> Sequence[str]:
    """Returns the vendors' variables whose values cannot be a key."""
    names = {name for vendor in VENDORS.values() for name in vendor.api_key_envs}
    return sorted(name for name in names if not _fits_key(environ.get(name, "").strip()))


def setting_values(settings: Settings) -> Mapping[str, str]:
    """Returns the settings that become headers, by name."""
    names = {name for vendor in VENDORS.values() for name in vendor.setting_headers.values()}
    return {name: getattr(settings, name) for name in names}


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A provider's key and its source: the name of an environment variable, `STORED`, or empty if
    there is no key."""

    value: str = field(default="", repr=False)
    origin: str = ""


def find_key(provider: Provider, environ: Mapping[str, str] = os.environ) -> ProviderKey:
    """Returns the provider's key.

    The row's variable takes precedence over the key stored in the row. A row without a variable
    reads its vendor's, but only if its base URL is the vendor's or on this machine: a vendor's key
    is not sent to an address that an operator entered.
    """
    if provider.api_key_env and (key := environ.get(provider.api_key_env, "").strip()):
        return ProviderKey(key, provider.api_key_env)
    if key := _stored_key(provider):
        return ProviderKey(key, STORED)
    vendor = VENDORS.get(provider.vendor)
    if vendor is None or provider.api_key_env or not provider.is_at_vendor:
        return ProviderKey()
    return vendor_key(vendor, environ)


def vendor_key(vendor: Vendor, environ: Mapping[str, str] = os.environ) -> ProviderKey:
    """Returns the key in the vendor's own variables, if there is one."""
    for name in vendor.api_key_envs:
        if key := environ.get(name, "").strip():
            return ProviderKey(key, name)
    return ProviderKey()


def _stored_key(provider: Provider) -> str:
    if not provider.encrypted_key:
        return ""
    try:
        return decrypt(provider.encrypted_key).strip()
    except SecretUnreadable:
        logger.error("The stored key of provider %s cannot be decrypted.", provider.name)
        return ""
