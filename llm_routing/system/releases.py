"""Releases of libraries whose internals we use: is the installed one within the tested range?"""

from importlib import import_module
from typing import NamedTuple


class Release(NamedTuple):
    """The first two numbers of a version."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


def release_of(version: str) -> Release:
    """Returns the release of a version; 0.0 if the version cannot be read."""
    parts = version.split(".")
    try:
        return Release(int(parts[0]), int(parts[1]))
    except (ValueError, IndexError):
        return Release(0, 0)


def untested_release(library: str, oldest: Release, newest: Release) -> str:
    """Returns the problem if the installed `library` is outside the tested range, else an empty
    string. Raises `ImportError` if it is not installed."""
    version = import_module(library).__version__
    if oldest <= release_of(version) <= newest:
        return ""
    return f"{library} {version} is not between {oldest} and {newest}"
