"""The base classes of the admin's pages: Django's own, or django-unfold's if it is installed.

Under Unfold's templates, Django's own classes have form fields without borders, and lists without a
button to add a row.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django import forms
from django.apps import apps
from django.contrib import admin

HAS_UNFOLD = apps.is_installed("unfold")

if TYPE_CHECKING or not HAS_UNFOLD:
    ModelAdmin = admin.ModelAdmin
    TabularInline = admin.TabularInline
else:
    _pages = import_module("unfold.admin")
    ModelAdmin = _pages.ModelAdmin
    TabularInline = _pages.TabularInline

_UNFOLD = {
    forms.CheckboxInput: "UnfoldBooleanWidget",
    forms.CheckboxSelectMultiple: "UnfoldAdminCheckboxSelectMultipleWidget",
    forms.PasswordInput: "UnfoldAdminPasswordWidget",
    forms.Select: "UnfoldAdminSelectWidget",
}


def themed(widget: type[forms.Widget]) -> type[Any]:
    """Returns the theme's class for `widget`. Django's admin uses it only for
    the fields that it creates itself."""
    if not HAS_UNFOLD:
        return widget
    found: type[Any] = getattr(import_module("unfold.widgets"), _UNFOLD[widget], widget)
    return found
