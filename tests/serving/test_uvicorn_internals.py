"""Internals of uvicorn that we rely on: a missing one is named, and then nothing is changed."""

from importlib import import_module

import pytest
import uvicorn

from llm_routing.checks import check_deployment
from llm_routing.serving.uvicorn_internals import parser_limits, versions
from llm_routing.serving.uvicorn_internals.writes import join_writes

EVERY = ["connection_made", "connection_lost", "data_received", "on_response_complete"]


def test_the_installed_uvicorn_can_be_extended() -> None:
    assert versions.problems() == []


@pytest.mark.parametrize(
    "attribute",
    [
        *(f"uvicorn.protocols.http.h11_impl.H11Protocol.{name}" for name in EVERY),
        *(
            f"uvicorn.protocols.http.httptools_impl.HttpToolsProtocol.{name}"
            for name in [*EVERY, "on_body", "on_message_begin"]
        ),
    ],
)
def test_a_missing_attribute_is_named(attribute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, _, name = attribute.rpartition(".")
    module, _, protocol = owner.rpartition(".")
    # asyncio.Protocol has methods of the same names.
    monkeypatch.setattr(getattr(import_module(module), protocol), name, None)
    assert versions.problems() == [f"{owner} has no {name}"]


@pytest.mark.parametrize("version", ["0.29.0", "9.9.9", "nightly"])
def test_an_untested_release_is_not_extended_and_is_logged(
    version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Cycle:
        scope = {"method": "GET"}  # noqa: RUF012
        transport = object()

        async def send(self) -> None:
            pass

    Cycle.__module__ = versions.HTTPTOOLS
    parser_limits.install()
    joined = join_writes(Cycle().send)
    assert joined is not None
    joined.restore()
    with monkeypatch.context() as patched:
        patched.setattr(uvicorn, "__version__", version)
        parser_limits.install()
        assert f"uvicorn {version} is not between" in caplog.text
        assert "llm_routing.W006" in [message.id for message in check_deployment()]
        assert join_writes(Cycle().send) is None
    parser_limits.install()
    assert join_writes(Cycle().send) is not None
