"""The lease: one holder at a time, by the database's clock."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from llm_routing.models import SweepLease
from tests.threads import at_once

pytestmark = pytest.mark.django_db(transaction=True)

leases = SweepLease.objects


def expire() -> None:
    SweepLease.objects.update(expires_at=Now() - timedelta(seconds=0.01))


def test_a_held_lease_cannot_be_claimed() -> None:
    assert leases.claim("sweep", "a", 60)
    assert not leases.claim("sweep", "b", 60)
    assert leases.claim("other", "b", 60)
    leases.release("sweep", "b", swept=True)
    assert SweepLease.objects.get(name="sweep").holder == "a"
    assert SweepLease.objects.get(name="sweep").swept_at is None
    leases.release("sweep", "a", swept=True)
    assert leases.claim("sweep", "b", 60)


def test_a_lease_that_has_run_out_is_taken_over_and_cannot_be_renewed() -> None:
    assert leases.claim("sweep", "a", 60)
    expire()
    assert leases.claim("sweep", "b", 60)
    assert not leases.renew("sweep", "a", 60)
    leases.release("sweep", "a", swept=True)
    row = SweepLease.objects.get()
    assert (row.holder, row.swept_at) == ("b", None)


def test_an_expired_lease_is_renewed_unless_another_process_has_taken_it() -> None:
    assert leases.claim("sweep", "a", 60)
    expire()
    assert leases.renew("sweep", "a", 60)
    assert not leases.claim("sweep", "b", 60)


def test_a_sweep_is_due_by_the_beginning_of_the_last_whole_one() -> None:
    assert leases.claim("sweep", "a", 60, interval=3600)
    leases.release("sweep", "a", swept=False)
    assert leases.claim("sweep", "a", 60, interval=3600)
    claimed_at = SweepLease.objects.get().claimed_at
    leases.release("sweep", "a", swept=True)
    assert SweepLease.objects.get().swept_at == claimed_at
    assert not leases.claim("sweep", "a", 60, interval=3600)
    assert leases.claim("sweep", "a", 60)
    leases.release("sweep", "a", swept=False)
    SweepLease.objects.update(swept_at=Now() - timedelta(seconds=3601))
    assert leases.claim("sweep", "a", 60, interval=3600)


def test_this_machine_s_clock_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: pytest.fail("its clock was asked"))
    assert leases.claim("sweep", "a", 60)
    assert leases.renew("sweep", "a", 60)
    assert not leases.claim("sweep", "b", 60, interval=5)
    leases.release("sweep", "a", swept=True)


def test_of_many_that_claim_at_once_one_has_it() -> None:
    claims, errors = at_once(8, lambda n: (leases.claim("sweep", str(n), 60), str(n)))
    assert errors == []
    holders = [name for is_holder, name in claims if is_holder]
    assert len(holders) == 1
    assert SweepLease.objects.get().holder == holders[0]
