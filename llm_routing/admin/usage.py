"""Usage records, read-only and paginated, in a table of any size."""

from django.contrib import admin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from llm_routing.core.types import CostSource, ModelTier
from llm_routing.models import ApiKey, Provider, UsageRecord, UseCaseRoute
from llm_routing.models.databases import in_current_time_zone
from llm_routing.models.usage import OUTCOMES

from .base import NamesFilter, ReadOnlyAdmin, status

_LEVELS = {"success": "good", "failure": "bad", "cancelled": "off", "interrupted": "warning"}


class TenantFilter(NamesFilter):
    """Filters by tenant."""

    title = gettext_lazy("tenant")
    parameter_name = "tenant"

    @staticmethod
    def names() -> list[str]:
        """Returns the tenants that have a key."""
        return list(ApiKey.objects.order_by("tenant").values_list("tenant", flat=True).distinct())


class ProviderFilter(NamesFilter):
    """Filters by provider."""

    title = gettext_lazy("provider")
    parameter_name = "provider"

    @staticmethod
    def names() -> list[str]:
        """Returns the providers."""
        return list(Provider.objects.order_by("name").values_list("name", flat=True))


class UseCaseFilter(NamesFilter):
    """Filters by use case."""

    title = gettext_lazy("use case")
    parameter_name = "use_case"

    @staticmethod
    def names() -> list[str]:
        """Returns the use cases that have a route."""
        routes = UseCaseRoute.objects.order_by("use_case")
        return list(routes.values_list("use_case", flat=True).distinct())


class TierFilter(NamesFilter):
    """Filters by tier."""

    title = gettext_lazy("tier")
    parameter_name = "tier"

    @staticmethod
    def names() -> list[str]:
        """Returns every tier."""
        return [tier.value for tier in ModelTier]


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnlyAdmin[UsageRecord]):
    """The page of usage records."""

    list_display = (
        "started",
        "result",
        "target",
        "route",
        "tokens",
        "cost_usd",
        "latency",
        "tenant",
    )
    list_filter = (
        "started_at",
        "outcome",
        TenantFilter,
        ProviderFilter,
        UseCaseFilter,
        TierFilter,
        "is_estimated",
        "cost_source",
    )
    # Both columns have an index; a substring search would read the whole table.
    search_fields = ("request_id__exact", "attempt_id__exact")
    search_help_text = gettext_lazy("A complete request ID or attempt ID.")
    sortable_by = ("started",)
    ordering = ("-started_at", "-id")

    @admin.display(description=gettext_lazy("started"), ordering="started_at")
    def started(self, record: UsageRecord) -> str:
        """The time in seconds, in the project's time zone."""
        return f"{in_current_time_zone(record.started_at):%Y-%m-%d %H:%M:%S}"

    @admin.display(description=gettext_lazy("target"))
    def target(self, record: UsageRecord) -> str:
        """Provider and model, and the number of the attempt after the first."""
        target = f"{record.provider}/{record.model}"
        return target if record.attempt == 1 else f"{target} (#{record.attempt})"

    @admin.display(description=gettext_lazy("outcome"))
    def result(self, record: UsageRecord) -> str:
        """The outcome, with the error code if it failed."""
        label = dict(OUTCOMES).get(record.outcome, record.outcome)
        text = f"{label}: {record.error_code}" if record.error_code else label
        return status(_LEVELS.get(record.outcome, "off"), text)

    @admin.display(description=gettext_lazy("route"))
    def route(self, record: UsageRecord) -> str:
        """Use case and tier."""
        return f"{record.use_case}:{record.tier}" if record.use_case else "—"

    @admin.display(description=gettext_lazy("tokens, in / out"))
    def tokens(self, record: UsageRecord) -> str:
        """Input and output tokens, marked if estimated, and tokens of the vendor's cache."""
        guess = "~" if record.is_estimated else ""
        counts = f"{guess}{record.input_tokens} / {guess}{record.output_tokens}"
        through_cache = (
            (_("%d cached"), record.cached_input_tokens),
            (_("%d written"), record.cache_write_tokens),
        )
        notes = ", ".join(words % count for words, count in through_cache if count)
        return f"{counts} ({notes})" if notes else counts

    @admin.display(description=gettext_lazy("USD"))
    def cost_usd(self, record: UsageRecord) -> str:
        """The cost in millionths of a dollar, marked if tokens are estimated; empty without a
        price."""
        if record.cost is None:
            return "—"
        guess = "~" if record.cost_source == CostSource.ESTIMATED else ""
        return f"{guess}{record.cost:.6f}"

    @admin.display(description=gettext_lazy("latency"))
    def latency(self, record: UsageRecord) -> str:
        """The total latency, and the time to the first token if it was measured."""
        whole = f"{record.latency_ms:.0f} ms"
        first = record.time_to_first_token_ms
        return whole if first is None else f"{whole} ({first:.0f})"
