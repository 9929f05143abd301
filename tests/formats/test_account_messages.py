"""Messages about the operator's account: they count only if no caller can have written them."""

import json
from typing import Any

import pytest

from llm_routing.core.errors import (
    CredentialRejected,
    QuotaExhausted,
)
from llm_routing.core.routing_table import ProviderSpec
from tests.formats.vendor_failures import ANTHROPIC, OPENAI, failure

CREDIT = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to "
    "upgrade or purchase credits."
)
SPENT = (
    "You have reached your specified API usage limits. You will regain access on 2026-12-01 at "
    "00:00 UTC."
)
WRONG_KEY = (
    "Incorrect API key provided: xa***yz. You can obtain an API key from https://console.x.ai."
)


def of_anthropic(text: str) -> Any:
    return {"type": "error", "error": {"type": "invalid_request_error", "message": text}}


def of_xai(text: str) -> Any:
    return {"code": "Client specified an invalid argument", "error": text}


ACCOUNT_MESSAGES = [
    (ANTHROPIC, of_anthropic, CREDIT, QuotaExhausted),
    (ANTHROPIC, of_anthropic, SPENT, QuotaExhausted),
    (ANTHROPIC, of_anthropic, SPENT.replace("API", "workspace API"), QuotaExhausted),
    (OPENAI, of_xai, WRONG_KEY, CredentialRejected),
    (OPENAI, of_xai, WRONG_KEY.replace(": xa***yz", ""), CredentialRejected),
]


@pytest.mark.parametrize(("provider", "shape", "text", "error"), ACCOUNT_MESSAGES)
def test_a_complete_message_about_the_account_counts_also_with_400(
    provider: ProviderSpec, shape: Any, text: str, error: type
) -> None:
    found = failure(400, shape(text), provider)
    assert type(found) is error
    assert found.counts_against_breaker


@pytest.mark.parametrize(("provider", "shape", "text", "error"), ACCOUNT_MESSAGES)
def test_a_message_that_is_not_exactly_the_vendor_s_does_not_count(
    provider: ProviderSpec, shape: Any, text: str, error: type
) -> None:
    for other in (
        f"tools.0.name: {text}",
        f"{text} x",
        text.upper(),
        text.partition(". ")[0] + ".",
        text.replace(" ", "  ", 1),
    ):
        assert not failure(400, shape(other), provider).counts_against_breaker, other
    for status in (404, 413, 422):
        assert not failure(status, shape(text), provider).counts_against_breaker


@pytest.mark.parametrize(("provider", "shape", "text", "error"), ACCOUNT_MESSAGES)
def test_a_complete_message_does_not_count_if_the_request_may_have_contained_it(
    provider: ProviderSpec, shape: Any, text: str, error: type
) -> None:
    """Whole, in another case, in parts, or where the vendor alone can read it."""
    half = len(text) // 2
    words = text.split()
    for content in (
        text,
        text.lower(),
        text[:half],
        text[half:],
        " ".join(words[-3:]),
        "See https://example.com/notes.",
        "data:text/plain;base64,WW91",
        json.dumps({"a": text}, ensure_ascii=True).replace("o", "\\u006f"),
    ):
        for body in (
            {"messages": [{"role": "user", "content": content}]},
            {"metadata": {"user_id": content}},
        ):
            found = failure(400, shape(text), provider, **body)
            assert not found.counts_against_breaker, (content, body)
    stored = {"thread": {"type": "continue", "previous_message_id": "msg_1"}}
    if provider is ANTHROPIC:
        assert not failure(400, shape(text), provider, **stored).counts_against_breaker


def test_an_account_message_that_was_relayed_from_another_vendor_does_not_count() -> None:
    raw = json.dumps(of_xai(WRONG_KEY))
    answer = {"error": {"message": "Provider returned error", "metadata": {"raw": raw}}}
    assert not failure(400, answer).counts_against_breaker
