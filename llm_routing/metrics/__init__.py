"""What happens, in numbers that add up over the processes that share a state directory.

`recorder` counts, `cells` and `shared` keep and add up, `exposition` shows; the ledger, not this,
accounts for money.
"""

from .exposition import Exposition
from .recorder import Metrics, Readings
from .tally import MeasuredSink, NoMetrics, Tally

__all__ = ["Exposition", "MeasuredSink", "Metrics", "NoMetrics", "Readings", "Tally"]
