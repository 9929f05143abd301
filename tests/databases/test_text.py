"""Text is the same text on every database: case, accents and trailing blanks count."""

from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, transaction
from django.utils import timezone

from llm_routing.models import ApiKey, ModelConfig, UsageRecord
from tests import rows

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("other", ["GPT-5", "gpt-５"])
def test_identifiers_that_look_alike_are_different(other: str) -> None:
    rows.model(model_id="gpt-5")
    provider = ModelConfig.objects.get().provider
    ModelConfig.objects.create(provider=provider, model_id=other)
    assert ModelConfig.objects.get(model_id="gpt-5").model_id == "gpt-5"
    assert ModelConfig.objects.get(model_id=other).model_id == other


def test_the_same_identifier_is_taken() -> None:
    rows.model(model_id="gpt-5")
    provider = ModelConfig.objects.get().provider
    with pytest.raises(IntegrityError), transaction.atomic():
        ModelConfig.objects.create(provider=provider, model_id="gpt-5")


def test_names_of_keys_and_requests_count_their_case() -> None:
    ApiKey.objects.issue("ci")
    ApiKey.objects.issue("CI")
    rows.usage("a", timezone.now(), request_id="req_A")
    rows.usage("b", timezone.now(), request_id="req_a")
    assert UsageRecord.objects.get(request_id="req_a").attempt_id == "b"


def test_the_admin_searches_without_regard_to_case() -> None:
    rows.model(model_id="gpt-5")
    assert ModelConfig.objects.filter(model_id__icontains="GPT").count() == 1


def test_every_text_column_of_ours_is_exact() -> None:
    of_simple_history = {"history_type"}
    plain: list[Any] = [
        f"{model.__name__}.{field.name}"
        for model in apps.get_app_config("llm_routing").get_models()
        for field in model._meta.concrete_fields
        if field.get_internal_type() in ("CharField", "SlugField")
        and field.name not in of_simple_history
        and type(field).__name__ not in ("ExactCharField", "ExactSlugField")
    ]
    assert plain == []
