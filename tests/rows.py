"""Rows of configuration for tests that need some and do not care which, and all rows there are."""

from typing import Any

from llm_routing.models import ModelConfig, Provider, RouteTarget, UsageRecord, UseCaseRoute


def provider(name: str = "openai", **values: Any) -> Provider:
    """The provider of that name, made where it is missing."""
    values.setdefault("vendor", "openai")
    return Provider.objects.get_or_create(name=name, defaults=values)[0]


def model(model_id: str = "gpt", of: str = "openai", **values: Any) -> ModelConfig:
    """A new model, of a provider that is made where it is missing."""
    return ModelConfig.objects.create(provider=provider(of), model_id=model_id, **values)


def route(use_case: str = "debugging", *models: ModelConfig, **values: Any) -> UseCaseRoute:
    """A new route to `models`, in their order."""
    row = UseCaseRoute.objects.create(use_case=use_case, **values)
    for position, target in enumerate(models):
        RouteTarget.objects.create(route=row, model=target, position=position)
    return row


def usage(attempt_id: str, started_at: Any, **values: Any) -> UsageRecord:
    """A new usage record."""
    values = {
        "request_id": f"request-{attempt_id}",
        "operation": "chat",
        "provider": "openai",
        "model": "gpt",
        "outcome": "success",
    } | values
    return UsageRecord.objects.create(attempt_id=attempt_id, started_at=started_at, **values)


def contents() -> list[list[dict[str, Any]]]:
    """Returns every provider, model, route and target, with all fields."""
    return [
        [dict(row) for row in table.objects.order_by("pk").values()]
        for table in (Provider, ModelConfig, UseCaseRoute, RouteTarget)
    ]
