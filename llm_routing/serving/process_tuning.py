"""Settings of the interpreter for a process that only runs the server."""

import gc
import logging
import sys

from llm_routing.system.huge_pages import use_huge_pages

GC_THRESHOLDS = (20_000, 20, 100)
"""The garbage collector runs after this many new objects, and on older generations after this many
runs. A request creates some hundreds of objects, nearly none of them in cycles."""
SWITCH_SECONDS = 0.0005
"""The time for which a background thread may hold the interpreter's lock. With Python's 5 ms a
request would wait that long several times while a batch of usage records is shipped."""
_ACCESS_LOG = logging.getLogger("uvicorn.access")


def tune_process() -> None:
    """Exempts the objects that exist now from garbage collection, shortens the turns of background
    threads, and spares uvicorn from formatting access log lines that its level discards. Then moves
    the memory into huge pages."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_SECONDS)
    if not _ACCESS_LOG.isEnabledFor(logging.INFO):
        _ACCESS_LOG.handlers.clear()
        _ACCESS_LOG.propagate = False
    use_huge_pages()
