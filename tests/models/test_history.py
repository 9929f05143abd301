"""Every change of the configuration is recorded: user, time, values, and never a secret."""

from importlib import import_module

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import RequestFactory

from llm_routing.models import ApiKey, ModelConfig, Provider, RouteTarget, UseCaseRoute
from llm_routing.models.version import changes_made_by
from tests import rows

pytestmark = pytest.mark.django_db

CLEAR_TEXT = "sk-very-secret-indeed"


def types(history):
    return "".join(history.order_by("history_id").values_list("history_type", flat=True))


def request_of(user):
    request = RequestFactory().get("/")
    request.user = user
    return request


@pytest.mark.parametrize("model", [ApiKey, ModelConfig, Provider, RouteTarget, UseCaseRoute])
def test_the_shell_can_import_every_model_of_history(model):
    history = model.history.model
    assert getattr(import_module(history.__module__), history.__name__) is history


def test_a_row_from_its_making_to_its_end():
    row = rows.provider()
    row.notes = "x"
    row.save()
    key = row.pk
    row.delete()
    assert types(Provider.history.filter(id=key)) == "+~-"


def test_bulk_changes_are_on_record_with_the_values_they_left():
    first, second = rows.model("a"), rows.model("b")
    ModelConfig.objects.update(display_name="x")
    second.display_name = "y"
    ModelConfig.objects.bulk_update([second], ["display_name"])
    assert types(first.history) == "+~"
    assert types(second.history) == "+~~"
    assert second.history.first().display_name == "y"


def test_rows_made_in_bulk_are_on_record():
    Provider.objects.bulk_create([Provider(name="a", vendor="openai")])
    assert types(Provider.history) == "+"


def test_a_target_s_changes_are_on_record():
    route = rows.route("debugging", rows.model())
    target = route.targets.get()
    target.position = 3
    target.save()
    route.delete()
    assert types(RouteTarget.history) == "+~-"
    assert types(UseCaseRoute.history) == "+-"


def test_a_changed_key_is_on_record_without_the_key():
    row = rows.provider()
    row.set_api_key(CLEAR_TEXT)
    row.save()
    newest, oldest = Provider.history.all()
    assert oldest.key_changed_at is None
    assert newest.key_changed_at is not None
    fields = {field.name for field in Provider.history.model._meta.get_fields()}
    assert "encrypted_key" not in fields


def test_an_api_key_is_on_record_without_its_digest():
    ApiKey.objects.issue("key")
    fields = {field.name for field in ApiKey.history.model._meta.get_fields()}
    assert "digest" not in fields
    assert ApiKey.history.get().name == "key"


def test_changes_record_the_user_of_the_request_only_within_it():
    user = get_user_model().objects.create_user("ada")
    other = get_user_model().objects.create_user("bob")
    with changes_made_by(request_of(user)):
        rows.provider("a")
        with changes_made_by(request_of(other)):
            Provider.objects.update(notes="x")
        Provider.objects.update(notes="y")
    Provider.objects.update(notes="z")
    who = [
        getattr(row.history_user, "username", None)
        for row in Provider.history.order_by("history_id")
    ]
    assert who == ["ada", "bob", "ada", None]


def test_history_survives_its_user():
    user = get_user_model().objects.create_user("ada")
    with changes_made_by(request_of(user)):
        rows.provider()
    user.delete()
    assert Provider.history.get().history_user is None


def test_the_migration_is_up_to_date():
    call_command("makemigrations", "llm_routing", check=True, dry_run=True, verbosity=0)
