"""Discovery of the models that providers offer.

`request` reads a document from a provider, `lists` parses model lists, `fetch` requests them,
`describe` derives rows from them, `record` writes the rows, `report` holds the result.
"""

from .report import DiscoveryReport, ProviderReport
from .run import UnknownProvider, discover

__all__ = ["DiscoveryReport", "ProviderReport", "UnknownProvider", "discover"]
