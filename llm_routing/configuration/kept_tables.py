"""Routing tables kept outside the database: in the shared cache and in a file of this machine.

A process starts from them if the database is unavailable. Cache entries are encrypted and bound to
their key: an attacker who can write to the cache can neither redirect our API keys to another
address nor restore an older table.
"""

import logging
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from django.core.cache import caches

from llm_routing.conf import Settings, get_settings
from llm_routing.core.routing_table import RoutingTable, table_from_json, table_to_json
from llm_routing.crypto.at_rest import Purpose, encryption_keys
from llm_routing.crypto.in_transit import Sealing
from llm_routing.system.private_files import private_directory, write_private
from llm_routing.vendors import VENDORS

from .snapshot import SnapshotOrigin

logger = logging.getLogger(__name__)

CACHE_SECONDS = 3600
LATEST_KEY = "llm_routing:table:latest"


def table_cache_key(version: int, stamp: str) -> str:
    """Returns the cache key of the table of one version. It depends on the vendors' addresses,
    which are part of the table and come from settings and from the release, not from rows."""
    return f"llm_routing:table:{version}:{stamp}:{_addresses_digest(get_settings())}"


def _addresses_digest(settings: Settings) -> str:
    addresses = "\n".join(settings.provider_base_url(vendor) for vendor in VENDORS.values())
    return blake2b(addresses.encode(), digest_size=8).hexdigest()


def last_known_table() -> tuple[SnapshotOrigin, RoutingTable] | None:
    """Returns the newest kept table and its source. If the cache's is older than the file's, an old
    entry was restored, and the file's is returned."""
    cached, saved = cached_table(LATEST_KEY), _saved_table()
    if cached is not None and (saved is None or cached.version >= saved.version):
        return SnapshotOrigin.CACHE, cached
    return None if saved is None else (SnapshotOrigin.FILE, saved)


def keep_latest(table: RoutingTable) -> None:
    """Keeps the table for processes that start without the database. Its cache entry does not
    expire, because an outage may take any time."""
    cache_table(LATEST_KEY, table, None)
    try:
        private_directory(_path().parent)
        write_private(_path(), table_to_json(table))
    except OSError as error:
        logger.warning("The configuration cannot be saved to a file: %s", error.strerror)


def cached_table(key: str) -> RoutingTable | None:
    """Returns a table from the shared cache; None if it is missing, damaged or forged, or if no
    cache is configured."""
    alias = get_settings().snapshot_cache_alias
    if not alias:
        return None
    try:
        cache = caches[alias]
        token = cache.get(key)
        if token is None:
            return None
        return _table_of(_sealing().decrypt(token, cache.make_key(key)))
    except Exception as error:  # noqa: BLE001  # any cache backend, any fault: there are fallbacks
        logger.warning("The cached configuration cannot be read: %s", type(error).__name__)
        return None


def cache_table(key: str, table: RoutingTable, seconds: int | None) -> None:
    """Stores a table in the shared cache, if one is configured, for `seconds` or for ever."""
    alias = get_settings().snapshot_cache_alias
    if not alias:
        return
    try:
        cache = caches[alias]
        text = table_to_json(table).decode()
        cache.set(key, _sealing().encrypt(text, cache.make_key(key)), seconds)
    except Exception as error:  # noqa: BLE001  # as in `cached_table`
        logger.warning("The configuration cannot be cached: %s", type(error).__name__)


def _table_of(data: bytes | str) -> RoutingTable:
    """Decodes a table. Its vendors' quirks are those of this release, because another release may
    have written it. Raises `ValueError`."""
    table = table_from_json(data)
    providers = {
        name: replace(spec, quirks=VENDORS[spec.vendor].quirks_at(spec.base_url))
        if spec.vendor in VENDORS
        else spec
        for name, spec in table.providers.items()
    }
    return replace(table, providers=providers)


def _sealing() -> Sealing:
    return Sealing(encryption_keys(Purpose.ROUTING_TABLE))


def _path() -> Path:
    return get_settings().state_dir / "routing_table.json"


def _saved_table() -> RoutingTable | None:
    try:
        return _table_of(_path().read_bytes())
    except (OSError, ValueError):
        return None
