"""Removes usage records that are older than the settings keep them, in small batches."""

from datetime import UTC, datetime, timedelta

from llm_routing.models import UsageRecord
from llm_routing.models.databases import as_stored

BATCH = 500


def prune_batch(days: float) -> int:
    """Deletes a batch of records older than `days`, the oldest first, and returns how many that
    were; fewer than `BATCH` were the last. Raises `django.db.Error`."""
    return UsageRecord.objects.prune(as_stored(datetime.now(UTC) - timedelta(days=days)), BATCH)
