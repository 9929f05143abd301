"""The version of the configuration, and the base of every model that is part of it.

A change of a configuration row bumps the version of its area in the same transaction, adds a
history entry, and sends a signal after the commit.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Final, Self, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import NotSupportedError, connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from simple_history.manager import HistoricalQuerySet
from simple_history.models import HistoricalRecords

from llm_routing.signals import configuration_changed

from .databases import PrimaryQuerySet
from .text import ExactCharField

T = TypeVar("T", bound=models.Model)

UNCHANGED: Final = (0, "")
"""The version and the stamp of an area before its first change."""


class ConfigurationVersionQuerySet(PrimaryQuerySet["ConfigurationVersion"]):
    """Reads and bumps the versions."""

    def current(self, area: str) -> int:
        """Returns the version of `area`; 0 before the first change."""
        return self.version_and_stamp(area)[0]

    def version_and_stamp(self, area: str) -> tuple[int, str]:
        """Returns the version of `area` and its stamp. The stamp is unique to this state: a
        restored database, or another one, may have the same version."""
        return self.filter(area=area).values_list("version", "stamp").first() or UNCHANGED

    def versions_and_stamps(self) -> Mapping[str, tuple[int, str]]:
        """Returns the version and the stamp of every area that has changed, in one query."""
        rows = self.values_list("area", "version", "stamp")
        return {area: (version, stamp) for area, version, stamp in rows}

    def bump(self, area: str) -> None:
        """Bumps the version of `area` in the transaction of the change. A change of the
        configuration sends a signal after the commit. The row stays locked until then, so versions
        follow the order of commits."""
        using = self.db
        with transaction.atomic(using=using, savepoint=False):
            moved = {"version": F("version") + 1, "stamp": uuid4().hex}
            if not self.filter(area=area).update(**moved):
                self._create(area)
                self.filter(area=area).update(**moved)
            if area != self.model.Area.HEALTH:
                _announce(area, using)

    def lock(self, area: str) -> None:
        """Takes the lock that every change of `area` takes; held until the transaction ends."""
        if not self.filter(area=area).update(version=F("version")):
            self._create(area)

    def _create(self, area: str) -> None:
        """Creates and locks the row of an area, even if another process was quicker. An insert that
        ignores conflicts would give each process a shared lock on MySQL, and so a deadlock."""
        has_target = connections[self.db].features.supports_update_conflicts_with_target
        self.bulk_create(
            [self.model(area=area, stamp=uuid4().hex)],
            update_conflicts=True,
            update_fields=["stamp"],
            unique_fields=["area"] if has_target else None,
        )


class ConfigurationVersion(models.Model):
    """The version of an area of the configuration, or of the health that processes share. Every
    change increments it, so a process finds out with one query whether anything is new."""

    class Area(models.TextChoices):
        """An area with its own version: routing (providers, models, routes), access (API keys) or
        health (checks, breaker reports and resets)."""

        ROUTING = "routing", _("routing")
        ACCESS = "access", _("access")
        HEALTH = "health", _("health")

    area = ExactCharField(_("area"), max_length=16, primary_key=True, choices=Area.choices)
    version = models.PositiveBigIntegerField(_("version"), default=0)
    stamp = ExactCharField(_("stamp"), max_length=32, blank=True, default="")

    objects = ConfigurationVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("configuration version")
        verbose_name_plural = _("configuration versions")

    def __str__(self) -> str:
        return f"{self.area} {self.version}"


class _Announcement:
    """One pending `configuration_changed` signal, shared by all rows of a transaction."""

    def __init__(self, area: str, using: str) -> None:
        self.area = area
        self.using = using
        self.is_sent = False

    def __call__(self) -> None:
        if not self.is_sent:
            self.is_sent = True
            configuration_changed.send_robust(
                sender=ConfigurationVersion, area=self.area, using=self.using
            )


_announcements: WeakKeyDictionary[BaseDatabaseWrapper, dict[str, _Announcement]] = (
    WeakKeyDictionary()
)


def _announce(area: str, using: str) -> None:
    # Every change registers a callback, because rolling back a savepoint also drops its callbacks;
    # the first callback that runs sends the signal for all.
    connection = connections[using]
    pending = _announcements.setdefault(connection, {})
    announcement = pending.get(area)
    if announcement is None or announcement.is_sent:
        announcement = pending[area] = _Announcement(area, using)
    transaction.on_commit(announcement, using=using)


def users_by_key(keys: Iterable[str | None]) -> dict[str, Any]:
    """Returns the existing users with these primary keys, which the history stores as text."""
    users = get_user_model()
    found: dict[str, Any] = {}
    for text in {key for key in keys if key is not None}:
        # The project may have used another type of user key before.
        with suppress(ValidationError):
            found[text] = users._meta.pk.to_python(text)  # noqa: SLF001  # documented API
    rows = users._default_manager.in_bulk(found.values())  # noqa: SLF001  # documented API
    return {text: rows[key] for text, key in found.items() if key in rows}


def _user_of(row: Any) -> Any:
    return users_by_key([row.history_user_id]).get(row.history_user_id)


def _set_user(row: Any, user: Any) -> None:
    row.history_user_id = None if user is None or user.pk is None else str(user.pk)


class _HistoryQuerySet(PrimaryQuerySet[Any], HistoricalQuerySet):  # type: ignore[misc]  # it ships no types
    """The history of simple_history, never read from a replica."""


class ConfigurationHistory(HistoricalRecords):  # type: ignore[misc]  # it ships no types
    """History tables with the same columns in every project, whatever its SIMPLE_HISTORY_*
    settings: they are part of our migrations. The user is stored as the text of its primary key,
    because users may have keys of any type and be in another database."""

    _date_indexing = True

    def __init__(self, **options: Any) -> None:
        super().__init__(
            history_id_field=models.BigAutoField(),
            history_change_reason_field=ExactCharField(max_length=100, null=True),
            history_user_id_field=ExactCharField(max_length=255, null=True),
            history_user_getter=_user_of,
            history_user_setter=_set_user,
            historical_queryset=_HistoryQuerySet,
            use_base_model_db=True,
            **options,
        )

    def create_history_model(self, model: Any, inherited: bool) -> Any:
        """As in simple_history, with the module that the class can be imported from: `manage.py
        shell` imports every model."""
        history_model = super().create_history_model(model, inherited)
        history_model.__module__ = model.__module__
        return history_model


@contextmanager
def changes_made_by(request: HttpRequest) -> Iterator[None]:
    """Records the user of `request` in history entries within the block, also in projects without
    simple_history's middleware."""
    context = HistoricalRecords.context
    before = getattr(context, "request", None)
    context.request = request
    try:
        yield
    finally:
        if before is None:
            del context.request
        else:
            context.request = before


class ConfigurationQuerySet(PrimaryQuerySet[T]):
    """Configuration rows. Methods that send no Django signal (`update`, `bulk_update`,
    `bulk_create`) bump the version and write history here. So simple_history's own
    `bulk_…_with_history` functions are not needed."""

    model: type[T]

    def active(self) -> Self:
        """Returns the active rows."""
        return self.filter(is_active=True)

    def update(self, **values: Any) -> int:
        """Like Django's, with history for every matched row."""
        self._for_write = True
        with transaction.atomic(using=self.db, savepoint=False):
            keys = list(self.values_list("pk", flat=True))
            count = super().update(**values)
            if keys:
                self._record(self._rows(keys), created=False)
        return count

    def bulk_create(
        self,
        objs: Iterable[T],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[T]:
        """Like Django's, with history. Raises `NotSupportedError` for both ways to handle
        conflicts, because the database does not report which rows it created or changed."""
        self._for_write = True
        if ignore_conflicts or update_conflicts:
            raise NotSupportedError("Conflict handling is not supported for configuration models.")
        with transaction.atomic(using=self.db, savepoint=False):
            created = super().bulk_create(objs, batch_size)
            if created:
                self._record(created, created=True)
        return created

    def delete(self) -> tuple[int, dict[str, int]]:
        """Like Django's. Bumps the version itself, because rows deleted by a database cascade send
        no signals."""
        self._for_write = True
        # The savepoint lets a caller catch `ProtectedError` in its own transaction.
        with transaction.atomic(using=self.db):
            deleted = super().delete()
            if deleted[0]:
                self._bump()
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]  # as in Django
    delete.queryset_only = True  # type: ignore[attr-defined]  # as in Django

    def _rows(self, keys: Sequence[Any]) -> list[T]:
        plain: models.QuerySet[T] = models.QuerySet(self.model, using=self.db)
        size = connections[self.db].features.max_query_params or len(keys)
        starts = range(0, len(keys), size)
        return [row for n in starts for row in plain.filter(pk__in=keys[n : n + size])]

    def _record(self, rows: list[T], *, created: bool) -> None:
        history: Any = self.model.history  # type: ignore[attr-defined]  # set by simple_history
        history.bulk_history_create(rows, update=not created)
        self._bump()

    def _bump(self) -> None:
        area: str = self.model.area  # type: ignore[attr-defined]  # of ConfigurationModel
        ConfigurationVersion.objects.using(self.db).bump(area)


class ConfigurationModel(models.Model):
    """The base of every model of the configuration. `receivers` moves the version of `area` when
    a row is saved or loaded raw from a fixture."""

    area: ClassVar[str] = ConfigurationVersion.Area.ROUTING

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Like Django's; row, history and version are written together or not at all."""
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using, savepoint=False):
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Like Django's; bumps the version in the same transaction, because rows deleted by a
        database cascade send no signals."""
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        # The savepoint lets a caller catch `ProtectedError` in its own transaction.
        with transaction.atomic(using=using):
            deleted = super().delete(*args, **kwargs)
            ConfigurationVersion.objects.using(using).bump(self.area)
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]  # as in Django
