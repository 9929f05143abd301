"""Reads a small document, such as a list of models, from a provider."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from llm_routing.core.ports import Credential, Transport
from llm_routing.core.redaction import masked_body

MAX_BYTES: Final = 16 * 1024 * 1024
NO_SUCH_PATH: Final = (404, 405, 501)
"""Statuses of servers that do not have the path."""


class Document(NamedTuple):
    """A response: its status, its headers by lower-case name, and its whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def read_document(
    transport: Transport,
    provider: str,
    url: str,
    credential: Credential,
    *,
    connect_timeout: float,
    max_connections: int | None,
) -> Document:
    """Returns the response to a GET with the provider's credential, whatever its status. In the
    body of an error the credential is masked. Raises `UpstreamError`."""
    answer = await transport.send(
        provider,
        "GET",
        url,
        {"Accept": "application/json", **credential.headers},
        b"",
        connect_timeout=connect_timeout,
        max_connections=max_connections,
    )
    try:
        body = await answer.read(MAX_BYTES)
    finally:
        await answer.aclose()
    if answer.status != 200:
        body = masked_body(body, credential.headers)
    return Document(answer.status, answer.headers, body)
