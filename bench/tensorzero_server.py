"""Serves TensorZero's gateway until ended: run by the interpreter it is installed for.

Arguments: its configuration, and the file that is to hold its address.
"""

import signal
import sys
from pathlib import Path

# Not installed for us, but for the interpreter this runs under.
from tensorzero.tensorzero import _start_http_gateway  # type: ignore[import-not-found]

if __name__ == "__main__":
    gateway = _start_http_gateway(
        config_file=sys.argv[1],
        clickhouse_url=None,
        postgres_url=None,
        valkey_url=None,
        async_setup=False,
    )
    draft = Path(f"{sys.argv[2]}.new")
    draft.write_text(gateway.base_url)
    draft.rename(sys.argv[2])
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
