"""A real HTTP server that imitates vendors deterministically, and fails on request.

It knows neither Django nor the formats of `llm_routing`, so that it can test both independently.
`docs/sandbox.md` describes its answers and the faults that can be requested.
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
