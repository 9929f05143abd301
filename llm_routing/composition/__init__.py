"""Builders of the parts of a router. With `factory` the only code that sees Django, the network
and the core together."""
