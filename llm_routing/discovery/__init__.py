"""Discovery: which models the providers offer, told to the configuration.

`lists` reads what a provider says, `fetch` asks for it, `describe` makes a row of it, `record`
writes, `report` is what came of it.
"""

from .report import DiscoveryReport, ProviderReport
from .run import UnknownProvider, discover

__all__ = ["DiscoveryReport", "ProviderReport", "UnknownProvider", "discover"]
