"""What happens, in numbers that add up over the processes that share a state directory.

`recorder` counts, `cells` and `shared` keep and add up, `exposition` shows; the ledger, not this,
accounts for money.
"""

from typing import TYPE_CHECKING, Any

from .recorder import Metrics, ProcessGauges
from .router_counters import RouterCounters
from .sinks import FanOutSink, NoMetrics

if TYPE_CHECKING:
    from .exposition import Exposition

__all__ = ["Exposition", "FanOutSink", "Metrics", "NoMetrics", "ProcessGauges", "RouterCounters"]


def __getattr__(name: str) -> Any:
    # What it shows metrics with is large, and a process that nobody scrapes does without.
    if name == "Exposition":
        from .exposition import Exposition

        return Exposition
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
