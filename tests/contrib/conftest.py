"""A router on a small configuration, as in `tests.router`."""

from tests.router.conftest import clean_process, configuration, connections_given_back, router

__all__ = ["clean_process", "configuration", "connections_given_back", "router"]
