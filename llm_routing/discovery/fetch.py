"""Requests model lists from providers, over the same guarded transport as every other request.

`lists` parses them.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from llm_routing.core.attempts.advice import connection_advice
from llm_routing.core.errors import (
    CredentialRejected,
    MalformedAnswer,
    UpstreamError,
    UpstreamTimeout,
)
from llm_routing.core.ports import Credential, Transport
from llm_routing.formats.names import ANTHROPIC_MESSAGES
from llm_routing.formats.registry import FORMATS
from llm_routing.vendors import Vendor

from .lists import MAX_MODELS, ListedModel, Page, parse_page
from .request import NO_SUCH_PATH, read_document

MAX_PAGES: Final = 20
PAGE_SIZE: Final = 1000
TIME_LIMIT: Final = 30.0
CONCURRENCY: Final = 8


@dataclass(frozen=True, slots=True)
class ListSource:
    """A provider to query. `credential` is None if the provider needs one and has none."""

    provider: str
    vendor: Vendor
    base_url: str
    credential: Credential | None
    connect_timeout: float
    max_connections: int | None = None


@dataclass(frozen=True, slots=True)
class ModelList:
    """The models of a provider. `is_complete`: missing models are not offered any more."""

    models: tuple[ListedModel, ...]
    unreadable: int
    is_complete: bool


async def read_lists(
    transport: Transport, sources: Iterable[ListSource]
) -> Mapping[str, ModelList | UpstreamError]:
    """Returns every provider's list or its error; queries a few providers at a time."""
    limit = asyncio.Semaphore(CONCURRENCY)

    async def one(source: ListSource) -> ModelList | UpstreamError:
        async with limit:
            try:
                return await read_list(transport, source)
            except UpstreamError as error:
                quirks = source.vendor.quirks_at(source.base_url)
                error.message = f"{error.message} {connection_advice(error, quirks)}".rstrip()
                return error

    sources = tuple(sources)
    outcomes = await asyncio.gather(*(one(source) for source in sources))
    return {source.provider: outcome for source, outcome in zip(sources, outcomes, strict=True)}


async def read_list(transport: Transport, source: ListSource) -> ModelList:
    """Returns a provider's list, page by page, within `TIME_LIMIT` seconds. Raises `UpstreamError`,
    also for an empty list: an empty list never marks models as vanished."""
    if source.credential is None:
        raise CredentialRejected("There is no key for this provider.")
    models: dict[str, ListedModel] = {}
    unreadable = 0
    is_complete = False
    try:
        async with asyncio.timeout(TIME_LIMIT):
            after = ""
            for _ in range(MAX_PAGES):
                page = await _page(transport, source, source.credential, after)
                known = len(models)
                models.update((model.model_id, model) for model in page.models)
                unreadable += page.unreadable
                if not page.has_more:
                    is_complete = True
                    break
                # Only Anthropic's paging is supported. A page without new models ends it.
                turns = source.vendor.format == ANTHROPIC_MESSAGES and page.last_id
                if not turns or not known < len(models) < MAX_MODELS:
                    break
                after = page.last_id
    except TimeoutError:
        raise UpstreamTimeout(f"The list did not arrive within {TIME_LIMIT:.0f} seconds.") from None
    if not models:
        raise MalformedAnswer("The provider's list of models is empty.", status=200)
    kept = tuple(models.values())[:MAX_MODELS]
    return ModelList(kept, unreadable, is_complete and not unreadable and len(kept) == len(models))


async def _page(
    transport: Transport, source: ListSource, credential: Credential, after: str
) -> Page:
    found = await read_document(
        transport,
        source.provider,
        _url(source, after),
        credential,
        connect_timeout=source.connect_timeout,
        max_connections=source.max_connections,
    )
    if found.status != 200:
        raise _failure(source, *found)
    try:
        # A list may be large, and the event loop serves requests too.
        return await asyncio.to_thread(parse_page, found.body)
    except ValueError:
        raise MalformedAnswer("The response is not a list of models.", status=200) from None


def _url(source: ListSource, after: str) -> str:
    url = source.base_url.rstrip("/") + source.vendor.models_path
    if source.vendor.format != ANTHROPIC_MESSAGES:
        return url
    query = f"?limit={PAGE_SIZE}"
    return url + query + (f"&after_id={quote(after, safe='')}" if after else "")


def _failure(
    source: ListSource, status: int, headers: Mapping[str, str], body: bytes
) -> UpstreamError:
    if status < 400:
        return MalformedAnswer(
            f"The provider answered with status {status}; redirects are not followed.",
            status=status,
        )
    if status in NO_SUCH_PATH:
        hint = source.vendor.path_hint(source.base_url)
        return MalformedAnswer(
            f"The provider has no list of models at {source.vendor.models_path}. {hint}".rstrip(),
            status=status,
        )
    return FORMATS[source.vendor.format].map_error(status, headers, body)
