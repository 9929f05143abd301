"""Which releases of a library count as tested."""

import sys
from types import SimpleNamespace

import pytest

from llm_routing.system.releases import Release, release_of, untested_release


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("3.12.4", (3, 12)),
        ("0.30", (0, 30)),
        ("4", (0, 0)),
        ("3.x", (0, 0)),
        ("", (0, 0)),
    ],
)
def test_a_release_is_the_first_two_numbers(version: str, release: tuple[int, int]) -> None:
    assert release_of(version) == release


@pytest.mark.parametrize(
    ("version", "is_tested"),
    [("3.11.9", False), ("3.12.0", True), ("3.14.99", True), ("3.15.0", False), ("nightly", False)],
)
def test_only_releases_within_the_range_are_tested(
    version: str, is_tested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "some_library", SimpleNamespace(__version__=version))
    problem = untested_release("some_library", Release(3, 12), Release(3, 14))
    assert problem == ("" if is_tested else f"some_library {version} is not between 3.12 and 3.14")


def test_a_library_that_is_not_installed_is_an_import_error() -> None:
    with pytest.raises(ImportError):
        untested_release("no_such_library", Release(0, 1), Release(0, 2))
