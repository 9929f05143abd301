"""The fixtures of the router's tests, which use the same configuration."""

from tests.router.conftest import clean_process, configuration

__all__ = ["clean_process", "configuration"]
