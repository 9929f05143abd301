"""`/api/llm/health`: liveness, readiness and the health of providers.

`llm_routing.health` computes the answers; no endpoint waits for a provider or the database.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from ninja import Router
from pydantic import BaseModel, Field

from llm_routing.configuration.snapshot import SnapshotOrigin
from llm_routing.factory import get_llm_router
from llm_routing.serving.readiness import is_draining

from . import schemas
from .auth import optional_caller
from .completions import GatewayRequest, json_response
from .openapi import document as documentation

router = Router(auth=None, tags=["Health"])

Status = Literal["healthy", "degraded", "unhealthy"]


class BreakerAnswer(BaseModel):
    """A circuit breaker of this process; `retry_after` in seconds, `cause` a failure's code."""

    state: Literal["closed", "open", "half_open"]
    cause: str | None
    retry_after: float | None


class CheckAnswer(BaseModel):
    """The last check that is still valid."""

    is_healthy: bool
    error_code: str | None
    kind: str
    age_seconds: float


class ModelHealth(BaseModel):
    """A model; calls are those of this process in the last five minutes."""

    status: Status
    calls: int
    error_rate: float | None
    latency_ms: float | None
    last_check: CheckAnswer | None
    breaker: BreakerAnswer


class ProviderHealth(BaseModel):
    """A provider; `problem` is what an operator should do; `availability` is the share of
    successful checks in the last day, `credential` the breaker of its key."""

    status: Status
    problem: str | None
    vendor: str
    has_credential: bool
    credential: BreakerAnswer
    availability: float | None
    calls: int
    error_rate: float | None
    latency_ms: float | None
    last_check: CheckAnswer | None
    models: Mapping[str, ModelHealth]


class ConfigurationAnswer(BaseModel):
    """The configuration in use, and its source."""

    version: int
    origin: str
    routes: int
    models: int


class RecordsAnswer(BaseModel):
    """Usage records of this process: why the database rejects them (`trouble`), and how many wait
    on disk, wait in memory, were set aside or were lost."""

    trouble: str | None
    backlog_bytes: int
    unwritten: int
    set_aside: int
    lost: int


class HealthAnswer(BaseModel):
    """`status` is public; the other fields need an API key. `notices` name keys in the environment
    that are not used."""

    status: Status
    configuration: ConfigurationAnswer | None = None
    notices: Sequence[str] = ()
    usage_records: RecordsAnswer | None = None
    providers: Mapping[str, ProviderHealth] | None = None


class LiveAnswer(BaseModel):
    """The process is up."""

    status: Literal["live"] = "live"


class ReadyAnswer(BaseModel):
    """Whether requests may be sent here, and if not, why."""

    status: Literal["ready", "not_ready"]
    reasons: Sequence[Literal["draining", "no_configuration"]] = Field(default=())


@router.get(
    "/health/live",
    response=documentation.responses(LiveAnswer, schemas.ErrorAnswer),
    operation_id="live",
)
async def live(request: GatewayRequest) -> HttpResponseBase:
    """Returns 200 while the process is up. For liveness probes: restart the process if this does
    not answer."""
    return _answer(LiveAnswer())


@router.get(
    "/health/ready",
    response=documentation.responses(ReadyAnswer, schemas.ErrorAnswer, ReadyAnswer),
    operation_id="ready",
)
async def ready(request: GatewayRequest) -> HttpResponseBase:
    """Returns 200 from the first configuration until the process drains, else 503. For readiness
    probes; an unreachable database does not change it."""
    reasons: list[Literal["draining", "no_configuration"]] = []
    if is_draining():
        reasons.append("draining")
    elif (await get_llm_router()).configuration_origin is SnapshotOrigin.NOWHERE:
        reasons.append("no_configuration")
    if reasons:
        return _answer(ReadyAnswer(status="not_ready", reasons=reasons), status=503)
    return _answer(ReadyAnswer(status="ready"))


@router.get("/health/", include_in_schema=False, response=None)
@router.get(
    "/health",
    response=documentation.responses(HealthAnswer, schemas.ErrorAnswer, HealthAnswer),
    operation_id="health",
)
async def health(request: GatewayRequest) -> HttpResponseBase:
    """Returns 200 if the gateway is healthy or degraded, else 503. The status is public; the
    configuration and the providers need an API key."""
    caller = await optional_caller(request)
    found = await (await get_llm_router()).get_health_status()
    answer = HealthAnswer.model_validate(found if caller else {"status": found["status"]})
    status = 503 if answer.status == "unhealthy" else 200
    return _answer(answer, status=status, exclude_unset=True)


def _answer(answer: BaseModel, *, status: int = 200, exclude_unset: bool = False) -> HttpResponse:
    response = json_response(answer.model_dump_json(exclude_unset=exclude_unset).encode())
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response
