"""Removes usage records that have reached the age limit of the settings, in small batches."""

from datetime import UTC, datetime, timedelta

from llm_routing.models import UsageRecord
from llm_routing.models.databases import as_stored

BATCH = 500


def prune_batch(days: float) -> int:
    """Deletes a batch of records older than `days`, the oldest first, and returns how many. Fewer
    than `BATCH` means that none are left. Raises `django.db.Error`."""
    return UsageRecord.objects.prune(as_stored(datetime.now(UTC) - timedelta(days=days)), BATCH)
