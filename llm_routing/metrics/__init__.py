"""Metrics, added up over the processes that share a state directory.

`recorder` counts, `cells` and `shared` store and add up, `exposition` renders. Money is accounted
in the ledger, not here.
"""

from typing import TYPE_CHECKING, Any

from .gauges import ProcessGauges
from .recorder import Metrics
from .router_counters import RouterCounters
from .sinks import FanOutSink, NoMetrics

if TYPE_CHECKING:
    from .exposition import Exposition

__all__ = ["Exposition", "FanOutSink", "Metrics", "NoMetrics", "ProcessGauges", "RouterCounters"]


def __getattr__(name: str) -> Any:
    # prometheus_client is large; a process that nothing scrapes does without.
    if name == "Exposition":
        from .exposition import Exposition

        return Exposition
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
