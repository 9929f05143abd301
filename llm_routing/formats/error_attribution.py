"""Decides what a vendor's error counts against, and whether another target may serve the request.

Callers choose their texts, and vendors quote them. An error therefore counts against a credential,
a model or a circuit breaker only if no caller can provoke it: if it follows from the vendor's
status or documented code, from a phrase that comes with an account status and does not occur in the
request, or from a complete message of the vendor of which the request contains no part.
"""

import re
from typing import Final

from llm_routing.core.codec import encode
from llm_routing.core.errors import (
    CredentialRejected,
    ModelNotFound,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    UpstreamError,
)
from llm_routing.core.vendor_details import Basis, SentRequest, VendorDetails

from .vendor_messages import mentions, outside_all_quotes, without_quotes

# Statuses about the key or its account. 403 alone proves nothing: OpenRouter answers it for flagged
# content, Together for a long prompt, Google for another user's file.
_OF_THE_ACCOUNT: Final = (401, 402, 403)

# Complete messages about the account from vendors that answer 400 without a code of their own:
# Anthropic's (type `invalid_request_error`) and xAI's. The variable parts are too short for a text.
_ACCOUNT_MESSAGES: Final = (
    re.compile(
        r"Your credit balance is too low to access the (?:Anthropic|Claude) API\. "
        r"Please go to Plans & Billing to upgrade or purchase credits\."
    ),
    re.compile(
        r"You have reached your specified (?:workspace )?API usage limits\. "
        r"You will regain access on \d{4}-\d\d-\d\d at \d\d:\d\d UTC\."
    ),
    re.compile(
        r"Incorrect API key provided(?:: [\w*-]{1,20})?\. "
        r"You can obtain an API key from https://console\.x\.ai\.?"
    ),
)
# Signs of text that a vendor can read and we cannot compare: at an address, encoded, escaped within
# a JSON text, or stored at the vendor.
_UNREADABLE: Final = (
    b"://", b"base64", b"file_", b"input_audio", rb"\\u", b'"thread', b"previous_", b'"container',
)  # fmt: skip

# Phrases for limits that depend on a single request:
# https://openrouter.ai/docs/api/reference/errors,
# https://platform.openai.com/docs/guides/rate-limits
_ABOUT_ONE_REQUEST: Final[dict[type[UpstreamError], tuple[str, ...]]] = {
    QuotaExhausted: ("fewer max_tokens", "can only afford", "in_flight_budget", "weight_exceeds"),
    RateLimited: ("request too large", "reduce your message", "reduce the size"),
}

# https://platform.openai.com/docs/api-reference, https://docs.mistral.ai/resources/error-glossary
# (pydantic's `extra_forbidden`)
_FEATURE_CODES: Final = frozenset(
    (
        "unsupported_parameter",
        "unsupported_value",
        "unsupported_model",
        "unsupported_content_type",
        "unknown_parameter",
        "extra_forbidden",
        "feature_not_supported",
    )
)
_FEATURE_WORDS: Final = (
    "not supported",
    "unsupported",
    "not support",
    "not permitted",
    "unrecognized request argument",
    "unknown parameter",
    "unknown field",
    "unknown name",
    "no endpoints found",
)


def counts_for_any_request(
    error_class: type[UpstreamError], status: int, basis: Basis, words: str
) -> bool:
    """Returns whether a failure counts against shared state, whatever the request was."""
    if not error_class.counts_against_breaker or basis is Basis.MESSAGE:
        return False
    if error_class is ModelNotFound:
        return False
    if basis is Basis.STATUS and status in (403, 409, 498):
        # 409 is about a resource that a caller names; 498 about a tier that a caller chose.
        return False
    return not any(sign in words for sign in _ABOUT_ONE_REQUEST.get(error_class, ()))


def with_status(error: UpstreamError, status: int) -> UpstreamError:
    """Returns `error`, with HTTP status 404 for the caller if the vendor's was 404: client
    libraries have a class for a missing resource."""
    if isinstance(error, RequestRejected) and status == 404:
        error.http_status = 404
    return error


def review(error: UpstreamError, sent: SentRequest) -> None:
    """Decides about `error` what depends on the request."""
    details = error.details
    if details is None:
        return
    if isinstance(error, ModelNotFound):
        error.counts_against_breaker = _is_about_our_model(details, sent)
    elif isinstance(error, CredentialRejected | QuotaExhausted) and details.basis is Basis.MESSAGE:
        error.counts_against_breaker = _are_the_vendors_words(details, sent) or _is_account_message(
            details, sent
        )
    elif isinstance(error, RequestRejected):
        error.retryable_elsewhere = _may_suit_another(details, sent)


def _is_about_our_model(details: VendorDetails, sent: SentRequest) -> bool:
    """Returns whether the missing model is the target's own: its name occurs nowhere else in the
    request, as it came and as it was sent."""
    if details.basis is Basis.MESSAGE and details.status not in (403, 404):
        return False
    if details.param not in ("", "model"):
        return False
    if mentions(details.reason, sent.model_id):
        name = encode(sent.model_id)[1:-1]
        others = {field: value for field, value in sent.caller_body.items() if field != "model"}
        return sent.body.count(name) == 1 and name not in encode(others)
    names_another = outside_all_quotes(details.reason) != details.reason.lower()
    return details.basis is Basis.CODE and not names_another and sent.body.count(b'model"') == 1


def _are_the_vendors_words(details: VendorDetails, sent: SentRequest) -> bool:
    """Returns whether the phrase that classified the error is the vendor's and not the caller's. An
    error without a phrase was relayed from another vendor."""
    return (
        details.phrase != ""
        and details.status in _OF_THE_ACCOUNT
        and details.phrase in outside_all_quotes(details.reason)
        and details.phrase.encode() not in sent.body.lower()
        and details.phrase.encode() not in encode(sent.caller_body).lower()
    )


def _is_account_message(details: VendorDetails, sent: SentRequest) -> bool:
    """Returns whether the whole message is one of the vendor's about the account, and no caller can
    have written it: no three consecutive words of it occur in the received or the sent request, and
    the request contains no text that cannot be compared."""
    if details.status != 400 or not details.phrase:
        return False
    if not any(pattern.fullmatch(details.reason) for pattern in _ACCOUNT_MESSAGES):
        return False
    words = details.reason.lower().split()
    parts = [" ".join(words[n : n + 3]).encode() for n in range(len(words) - 2)]
    signs = (*_UNREADABLE, *parts)
    bodies = (sent.body.lower(), encode(sent.caller_body).lower())
    return not any(sign in body for body in bodies for sign in signs)


def _may_suit_another(details: VendorDetails, sent: SentRequest) -> bool:
    """Returns whether another vendor may accept a request that this one rejected: because the
    gateway wrote the request or the rejected part, or because a feature is missing."""
    if not sent.is_relayed:
        return True
    if details.code in _FEATURE_CODES:
        return True
    if details.status == 404:
        # A resource of the caller's is missing (`file_not_found`), or the address is wrong.
        return not details.code.endswith("_not_found")
    field = details.param.partition(".")[0].partition("[")[0]
    if field and field not in sent.caller_body:
        return True
    words = without_quotes(details.reason)
    return any(sign in words for sign in _FEATURE_WORDS)
