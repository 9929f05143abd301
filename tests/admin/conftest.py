"""Operators at the admin's pages."""

from itertools import count

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse


class Operator(Client):
    """A browser with a logged-in user."""

    def __init__(self, user):
        super().__init__()
        self.user = user
        self.force_login(user)


@pytest.fixture(autouse=True)
def admin_urls(settings, db):
    """Only the admin is mounted, and settings are those of a server."""
    settings.ROOT_URLCONF = "tests.admin.urls"
    settings.LLM_ROUTING = {"ALLOWED_UPSTREAM_NETWORKS": ()}


@pytest.fixture
def operator():
    """Returns a user with all permissions."""
    user = get_user_model().objects.create_superuser("ada")
    return Operator(user)


@pytest.fixture
def operator_with():
    """Returns a user with only these permissions."""

    numbers = count()

    def make(*codenames):
        user = get_user_model().objects.create_user(f"bob{next(numbers)}", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="llm_routing", codename__in=codenames)
        )
        return Operator(user)

    return make


@pytest.fixture
def url():
    """The address of a page of ours."""

    def make(model, page="changelist", *args):
        return reverse(f"admin:llm_routing_{model}_{page}", args=args)

    return make
