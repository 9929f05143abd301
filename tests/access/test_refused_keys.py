"""Refused keys: throttled by the client's address, logged in summary."""

import logging

import pytest

from llm_routing.access.refused_keys import LOG_SECONDS, MAX_ADDRESSES, Reason, RefusedKeys
from llm_routing.conf import get_settings
from llm_routing.core.errors import Throttled, Unauthenticated


def look_up(refused: RefusedKeys, address: str) -> None:
    refused.check(address)
    refused.refusal(Reason.UNKNOWN, address, took_query=True)


def test_the_budget_of_an_address_refills_and_its_debt_is_bounded() -> None:
    now = 0.0
    refused = RefusedKeys(lambda: now)
    limit = get_settings().refused_keys_per_minute
    for _ in range(limit):
        look_up(refused, "10.0.0.1")
    with pytest.raises(Throttled) as caught:
        refused.check("10.0.0.1")
    assert caught.value.retry_after == pytest.approx(60 / limit)
    refused.check("10.0.0.2")
    now += 60 / limit
    look_up(refused, "10.0.0.1")
    for _ in range(limit * 10):  # concurrent requests that passed the check together
        refused.refusal(Reason.UNKNOWN, "10.0.0.1", took_query=True)
    with pytest.raises(Throttled) as caught:
        refused.check("10.0.0.1")
    assert caught.value.retry_after == pytest.approx(60 + 60 / limit)


def test_addresses_of_one_network_count_together_in_bounded_memory() -> None:
    refused = RefusedKeys(lambda: 0.0)
    for number in range(get_settings().refused_keys_per_minute):
        look_up(refused, f"2001:db8::{number:x}")
    with pytest.raises(Throttled):
        refused.check("2001:db8::ffff")
    refused.check("2001:db8:0:1::1")
    look_up(refused, "::ffff:10.0.0.1")
    for number in range(MAX_ADDRESSES + 10):
        look_up(refused, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert refused.clients == MAX_ADDRESSES


def test_the_log_gets_one_line_per_interval(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    refused = RefusedKeys(lambda: now)
    for _ in range(1000):
        assert isinstance(refused.refusal(Reason.UNKNOWN, "10.0.0.1"), Unauthenticated)
    now = LOG_SECONDS
    refused.refusal(Reason.EXPIRED, "", "nightly")
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines == [
        "API keys refused: 1 unknown; the last one from 10.0.0.1.",
        (
            "API keys refused: 999 unknown, 1 expired; the last one from an unknown address, "
            "the key named 'nightly'."
        ),
    ]
