"""Checks providers: the cheapest call that proves the key, or a real completion.

Uses no database: takes specs, and makes calls through ports.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import uuid4

from llm_routing.core.attempts.advice import connection_advice
from llm_routing.core.attempts.calls import Call
from llm_routing.core.attempts.executor import Executor
from llm_routing.core.capabilities import Capability
from llm_routing.core.codec import decode
from llm_routing.core.content import Message, Role, TextPart
from llm_routing.core.embeddings import EmbeddingRequest
from llm_routing.core.errors import (
    ERRORS_BY_CODE,
    AddressForbidden,
    EndpointNotFound,
    LLMError,
    MalformedAnswer,
    ModelNotFound,
    UpstreamError,
    UpstreamTimeout,
)
from llm_routing.core.planner import RoutePlan
from llm_routing.core.ports import Clock, Credential, CredentialStore, Operation, Transport
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.types import Caller, LLMRequest
from llm_routing.discovery.lists import OfferedModels, offered_models, parse_page
from llm_routing.discovery.request import NO_SUCH_PATH, read_document
from llm_routing.formats.names import ANTHROPIC_MESSAGES
from llm_routing.formats.operations import ChatOperation, EmbeddingOperation
from llm_routing.formats.registry import FORMATS
from llm_routing.vendors import VENDORS, Vendor

NO_CREDENTIAL = "no_credential"
LOCAL_REFUSALS = frozenset((NO_CREDENTIAL, AddressForbidden.code))
"""Errors that depend on this process's settings and environment; other processes may differ."""
# Reasoning models reject limits that leave no room for an answer.
MIN_TOKENS, MIN_REASONING_TOKENS = 1, 16


class CheckKind(StrEnum):
    """The kind of a check."""

    CREDENTIAL = "credential"
    COMPLETION = "completion"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check; `model` is empty for the provider itself."""

    provider: str
    model: str
    kind: CheckKind
    is_healthy: bool
    error_code: str = ""
    message: str = ""
    latency_ms: float | None = None

    @property
    def is_about_target(self) -> bool:
        """Whether the result is about the target itself, and so valid for every process."""
        return self.error_code not in LOCAL_REFUSALS


@dataclass(frozen=True, slots=True)
class ProviderToCheck:
    """A provider to check, and its models to check."""

    spec: ProviderSpec
    models: tuple[ModelSpec, ...]

    @property
    def vendor(self) -> Vendor:
        """The provider's vendor."""
        return VENDORS[self.spec.vendor]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds to connect, seconds for a whole check, and how many checks run at the same time."""

    connect: float
    check: float
    concurrency: int


class Checker:
    """Checks several providers at a time. `results` holds the results so far."""

    def __init__(
        self,
        *,
        transport: Transport,
        executor: Executor,
        credentials: CredentialStore,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self.results: list[CheckResult] = []
        self._transport = transport
        self._executor = executor
        self._credentials = credentials
        self._clock = clock
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.concurrency)

    async def check(self, providers: Sequence[ProviderToCheck], *, deep: bool) -> None:
        """Adds a result for every provider and every model, also for failures."""
        async with asyncio.TaskGroup() as tasks:
            for provider in providers:
                tasks.create_task(self._check_provider(provider, covers_models=not deep))
                if deep:
                    for model in provider.models:
                        tasks.create_task(self._check_model(Target(provider.spec, model)))

    async def _check_provider(self, checked: ProviderToCheck, *, covers_models: bool) -> None:
        provider = checked.spec.name
        async with self._slots:
            began = self._clock.monotonic()
            offer, code, message, latency = None, "", "", None
            credential = self._credentials.get(provider)
            if credential is None:
                code, message = NO_CREDENTIAL, "The provider has no API key."
            else:
                try:
                    offer = await self._fetch_models(checked, credential)
                except UpstreamError as error:
                    hint = connection_advice(error, checked.spec.quirks)
                    code, message = error.code, f"{error.message} {hint}".rstrip()
                latency = (self._clock.monotonic() - began) * 1000

        def found(model: str, code: str, message: str) -> CheckResult:
            return CheckResult(
                provider, model, CheckKind.CREDENTIAL, not code, code, message, latency
            )

        self.results.append(found("", code, message))
        for model in checked.models if covers_models else ():
            if not code and offer is not None and not offer.has(model.model_id):
                self.results.append(
                    found(model.model_id, ModelNotFound.code, "The provider does not list it.")
                )
            else:
                self.results.append(found(model.model_id, code, message))

    async def _fetch_models(
        self, checked: ProviderToCheck, credential: Credential
    ) -> OfferedModels | None:
        """Returns the models of the provider's list, or None if the list is not conclusive. Raises
        `UpstreamError`."""
        try:
            async with asyncio.timeout(self._limits.check):
                return await self._request_models(checked, credential)
        except TimeoutError:
            raise UpstreamTimeout(f"No answer within {self._limits.check:.3g} s.") from None

    async def _request_models(
        self, checked: ProviderToCheck, credential: Credential
    ) -> OfferedModels | None:
        provider, vendor = checked.spec, checked.vendor
        path = vendor.credential_path or vendor.models_path
        if vendor.format == ANTHROPIC_MESSAGES:
            path += "?limit=1000"
        found = await read_document(
            self._transport,
            provider.name,
            provider.base_url + path,
            credential,
            connect_timeout=provider.connect_timeout or self._limits.connect,
            max_connections=provider.max_connections,
        )
        if found.status in NO_SUCH_PATH:
            # The provider answers; only a completion could prove that it accepts the key.
            return None
        if found.status != 200:
            if found.status < 400:
                raise MalformedAnswer(f"The provider answered with status {found.status}.")
            raise FORMATS[provider.format].map_error(*found)
        return _offered(checked, found.body)

    async def _check_model(self, target: Target) -> None:
        provider, model = target.key
        code, message, latency, is_healthy = "", "", None, True
        if self._credentials.get(provider) is None:
            code, message = NO_CREDENTIAL, "The provider has no API key."
            is_healthy = False
        else:
            async with self._slots:
                began = self._clock.monotonic()
                call = Call(
                    f"health_{uuid4().hex}",
                    Caller(),
                    deadline=began + self._limits.check,
                    max_attempts=1,
                )
                try:
                    await self._executor.complete(_probe(target), RoutePlan((target,)), call)
                except LLMError as error:
                    code, message = _reason(error), error.message
                    # The request names only the model, so nothing else can be missing.
                    is_healthy = _is_healthy(code) and error.http_status != 404
                latency = (self._clock.monotonic() - began) * 1000
        self.results.append(
            CheckResult(provider, model, CheckKind.COMPLETION, is_healthy, code, message, latency)
        )


class _Completion(ChatOperation):
    name = "health"


class _Embedding(EmbeddingOperation):
    name = "health"


def _probe(target: Target) -> Operation[Any]:
    """Sends the smallest possible request to a model."""
    capabilities = target.model.capabilities
    if Capability.EMBEDDINGS in capabilities:
        return _Embedding(EmbeddingRequest(("ping",)))
    thinks = Capability.REASONING in capabilities
    return _Completion(
        LLMRequest(
            (Message(Role.USER, (TextPart("ping"),)),),
            max_tokens=MIN_REASONING_TOKENS if thinks else MIN_TOKENS,
        )
    )


def _offered(checked: ProviderToCheck, body: bytes) -> OfferedModels | None:
    """Returns the models of the list; None if a model that is not listed may exist."""
    vendor = checked.vendor
    try:
        if vendor.credential_path:
            decode(body)
            return None
        page = parse_page(body)
    except ValueError:
        raise MalformedAnswer(
            "The response does not have the format of this vendor.", status=200
        ) from None
    is_whole = page.models and not page.unreadable and not page.has_more
    is_last_word = not vendor.accepts_unlisted_models and vendor.is_own_host(checked.spec.base_url)
    return offered_models(page.models) if is_whole and is_last_word else None


def _reason(error: LLMError) -> str:
    """Returns the error code of the only attempt."""
    return error.attempts[-1].error_code if error.attempts else error.code


def _is_healthy(code: str) -> bool:
    """Returns whether the target is healthy: it is if it rejects only the check's request."""
    error = ERRORS_BY_CODE.get(code)
    return (
        error is not None
        and issubclass(error, UpstreamError)
        and error not in (ModelNotFound, EndpointNotFound, AddressForbidden)
        and not error.counts_against_breaker
    )
