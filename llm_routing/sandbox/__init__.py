"""A real HTTP server that answers as a vendor would, deterministically, and misbehaves on request.

It knows neither Django nor the formats of `llm_routing`: it is an independent witness of both.
`docs/sandbox.md` describes what it says and the faults it can be asked for.
"""

from .faults import Faults, FaultSyntaxError
from .journal import Entry, Journal, Outcome, Step
from .server import PortTaken, Sandbox, serve

__all__ = [
    "Entry",
    "FaultSyntaxError",
    "Faults",
    "Journal",
    "Outcome",
    "PortTaken",
    "Sandbox",
    "Step",
    "serve",
]
