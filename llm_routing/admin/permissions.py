"""Permissions of the admin's pages, for all rows of a table or for single ones.

A permission that a user has in general covers every row. If it is missing, the authentication
backends check the row, so per-object permissions of django-guardian or rules work.
Django's own backend grants nothing for single rows.
"""

from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import InlineModelAdmin
from django.contrib.auth import get_permission_codename
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import ngettext

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    Base = ModelAdmin[Any]
    InlineBase = InlineModelAdmin[Any, Any]
else:
    Base = InlineBase = object

M = TypeVar("M", bound=Model)

MAX_ROWS_ASKED = 200
"""Maximum rows of a list whose permissions are checked before an action is offered."""


def may(request: HttpRequest, permission: str, row: Model | None = None) -> bool:
    """Whether the user has `app_label.codename` in general, or for `row`."""
    user = request.user
    return user.has_perm(permission) or (row is not None and user.has_perm(permission, row))


def permission_of(model: type[Model], action: str) -> str:
    """Returns the name of Django's permission to view, add, change or delete rows of `model`."""
    opts = model._meta  # noqa: SLF001  # documented API
    return f"{opts.app_label}.{get_permission_codename(action, opts)}"


class ObjectPermissions(Base):
    """Mixin for admins: checks permissions for the row.

    An action names `permissions=["switch"]` or another permission whose `has_…_permission` calls
    `may_for_any`, and runs for the rows that `permitted` returns.
    """

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may see `obj`, or the list. Permission to change a row includes this."""
        return any(
            may(request, permission_of(self.model, action), obj) for action in ("view", "change")
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may change `obj`, or any row."""
        return may(request, permission_of(self.model, "change"), obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may delete `obj`, or any row."""
        return may(request, permission_of(self.model, "delete"), obj)

    def may_for_any(self, request: HttpRequest, permission: str) -> bool:
        """Whether the user has the permission for one of the selected rows at least, or for one of
        the listed rows if none is selected."""
        if may(request, permission):
            return True
        rows = self.get_queryset(request)
        selected = [key for key in request.POST.getlist(ACTION_CHECKBOX_NAME) if key.isdecimal()]
        if selected:
            rows = rows.filter(pk__in=selected)
        return any(may(request, permission, row) for row in rows[:MAX_ROWS_ASKED])

    def permitted(
        self, request: HttpRequest, queryset: QuerySet[M], permission: str
    ) -> QuerySet[M]:
        """Returns the rows for which the user has the permission, and reports the others."""
        if may(request, permission):
            return queryset
        rows = list(queryset)
        kept = [row.pk for row in rows if may(request, permission, row)]
        if missing := len(rows) - len(kept):
            text = ngettext(
                "%(count)d row was left out: you do not have the permission for it.",
                "%(count)d rows were left out: you do not have the permission for them.",
                missing,
            )
            self.message_user(request, text % {"count": missing}, messages.ERROR)
        return queryset.filter(pk__in=kept)


class ParentPermissions(InlineBase):
    """Mixin for inlines whose rows are a part of their parent: permission to change the parent as
    an object allows to view, add, change and delete them.

    Without that, the permissions for the inline's own table decide, as in Django.
    """

    _parent: Model | None = None

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """Like Django's. Django creates an inline for each request and calls this before
        `get_queryset`."""
        self._parent = obj
        return super().get_formset(request, obj, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Returns the rows if the user may see those of the parent. Django checks the general
        permission only."""
        rows = super(InlineModelAdmin, self).get_queryset(request)
        return rows if self.has_view_or_change_permission(request, self._parent) else rows.none()

    def _may_change(self, request: HttpRequest, parent: Model | None) -> bool:
        name = permission_of(self.parent_model, "change")
        return parent is not None and request.user.has_perm(name, parent)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may see the rows of the parent `obj`: permission to see it is enough."""
        sees = obj is not None and request.user.has_perm(
            permission_of(self.parent_model, "view"), obj
        )
        return sees or self._may_change(request, obj) or super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may add rows to the parent `obj`."""
        return self._may_change(request, obj) or super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may change the rows of the parent `obj`."""
        return self._may_change(request, obj) or super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may delete rows of the parent `obj`."""
        return self._may_change(request, obj) or super().has_delete_permission(request, obj)
