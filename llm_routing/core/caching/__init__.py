"""Cached responses, single-flight and idempotency keys."""
