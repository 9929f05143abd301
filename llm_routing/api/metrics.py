"""`/metrics`: the metrics of all processes, for Prometheus.

`llm_routing.metrics` records them and merges the processes.
"""

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from ninja import Router

from llm_routing.conf import get_settings
from llm_routing.core.errors import PermissionDenied, Unauthenticated
from llm_routing.factory import get_exposition

from . import schemas
from .auth import optional_caller
from .completions import GatewayRequest
from .errors import UnknownEndpoint
from .openapi import document as documentation

router = Router(auth=None, tags=["Metrics"])


@router.get(
    "/metrics",
    response=documentation.responses(None, schemas.ErrorAnswer),
    openapi_extra=documentation.text("text/plain", "application/openmetrics-text"),
    operation_id="metrics",
)
async def metrics(request: GatewayRequest) -> HttpResponseBase:
    """Returns the metrics of all processes that share the state directory, in Prometheus's text
    format or as OpenMetrics, as `Accept` says. METRICS_ACCESS decides who may read them."""
    await _check_access(request)
    text, media_type = (await get_exposition()).text(request.headers.get("Accept", ""))
    response = HttpResponse(text, content_type=media_type)
    response.headers["Cache-Control"] = "no-store"
    return response


async def _check_access(request: GatewayRequest) -> None:
    settings = get_settings()
    if settings.metrics_access == "off":
        raise UnknownEndpoint("Metrics are switched off.")
    if settings.metrics_access == "open":
        return
    caller = await optional_caller(request)
    if caller is None:
        raise Unauthenticated("Metrics need an API key with the right to read them.")
    if not caller.reads_metrics and caller.key_name not in settings.metrics_key_names:
        raise PermissionDenied(
            "This API key may not read metrics. Grant the right in the admin or by "
            "create_llm_key --metrics."
        )
