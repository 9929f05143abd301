"""Metrics, summed over the processes that share a state directory.

`recorder` counts, `cells` and `shared` store and sum, `exposition` renders. The ledger accounts for
money.
"""

from typing import TYPE_CHECKING, Any

from .gauges import ProcessGauges
from .recorder import Metrics
from .router_counters import RouterCounters
from .sinks import NoMetrics

if TYPE_CHECKING:
    from .exposition import Exposition

__all__ = ["Exposition", "Metrics", "NoMetrics", "ProcessGauges", "RouterCounters"]


def __getattr__(name: str) -> Any:
    # prometheus_client is large; a process without scrapes does not load it.
    if name == "Exposition":
        from .exposition import Exposition

        return Exposition
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
