"""The error classes: tree, codes and consequences."""

import re
from collections import Counter

import pytest

from llm_routing.core import errors
from llm_routing.core.errors import (
    ERRORS_BY_CODE,
    AddressForbidden,
    AllTargetsFailed,
    AnswerTooLarge,
    BreakerOpen,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    ContentFiltered,
    ContextTooLong,
    DeadlineCut,
    EndpointNotFound,
    FirstTokenTimeout,
    IdleTimeout,
    InvalidRequest,
    LLMError,
    MalformedAnswer,
    NameResolutionFailed,
    ProviderBusy,
    RateLimited,
    RequestRejected,
    RoutingError,
    ServerFailed,
    TLSFailed,
    TruncatedStream,
    UnknownModel,
    UnsupportedRequest,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from llm_routing.core.types import AttemptOutcome, AttemptSummary

ATTEMPTS = (AttemptSummary("p", "m", AttemptOutcome.FAILURE, "server_failed"),)

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, LLMError)
]
UPSTREAM = [error for error in CLASSES if issubclass(error, UpstreamError)]

DRAWN = re.compile(r"^(?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+) +(?P<status>\d{3})", re.MULTILINE)

# A retry at the same target may help. A listed class says nothing about its subclasses.
RETRYABLE_HERE = {
    ConnectionFailed,
    ConnectionLost,
    RateLimited,
    UpstreamOverloaded,
    ServerFailed,
    MalformedAnswer,
    TruncatedStream,
}
# No other target would give another result.
FINAL = {ContentFiltered, RequestRejected}
# Caused by the request, the configuration or the gateway: says nothing about the target's health.
HARMLESS = {
    AddressForbidden,
    BreakerOpen,
    ProviderBusy,
    ContextTooLong,
    ContentFiltered,
    EndpointNotFound,
    RequestRejected,
    UnsupportedRequest,
}
# The vendor has done work, or may have.
BILLED = {
    ConnectionLost,
    UpstreamTimeout,
    FirstTokenTimeout,
    IdleTimeout,
    DeadlineCut,
    MalformedAnswer,
    TruncatedStream,
    AnswerTooLarge,
}


def drawn() -> list[re.Match[str]]:
    return list(DRAWN.finditer(errors.__doc__ or ""))


def test_the_tree_names_every_error_exactly_once() -> None:
    assert Counter(match["name"] for match in drawn()) == Counter(
        error.__name__ for error in CLASSES
    )


def test_the_tree_shows_each_error_under_its_parent() -> None:
    above: list[str] = []
    parents: dict[str, str] = {}
    for match in drawn():
        depth = len(match["indent"]) // 4
        above[depth:] = [match["name"]]
        if depth:
            parents[match["name"]] = above[depth - 1]
    assert parents == {
        error.__name__: error.__bases__[0].__name__ for error in CLASSES if error is not LLMError
    }


@pytest.mark.parametrize("error", CLASSES)
def test_the_tree_gives_the_http_status_of_each_error(error: type[LLMError]) -> None:
    statuses = {match["name"]: int(match["status"]) for match in drawn()}
    # Its status depends on the last failure; see below.
    own = RoutingError if error is AllTargetsFailed else error
    assert statuses[error.__name__] == own.http_status


def test_every_error_has_a_unique_code_and_is_found_by_it() -> None:
    assert {error.code: error for error in CLASSES} == ERRORS_BY_CODE
    assert len(ERRORS_BY_CODE) == len(CLASSES)
    assert all("code" in vars(error) for error in CLASSES)


@pytest.mark.parametrize("error", UPSTREAM)
def test_the_consequences_of_each_failure(error: type[UpstreamError]) -> None:
    assert error.retryable_here is (error in RETRYABLE_HERE)
    assert error.retryable_elsewhere is (error not in FINAL)
    assert error.counts_against_breaker is (error not in HARMLESS)
    assert error.billed is (error in BILLED)


def test_address_and_tls_failures_are_not_retried() -> None:
    for error in (NameResolutionFailed, TLSFailed, AddressForbidden, ConnectTimeout):
        assert not error.retryable_here
        assert not error.billed


@pytest.mark.parametrize("error", UPSTREAM)
def test_a_failed_attempt_keeps_the_vendor_s_status_and_retry_after(
    error: type[UpstreamError],
) -> None:
    failure = error("No.", status=418, retry_after=2.5)
    assert (str(failure), failure.message) == ("No.", "No.")
    assert (failure.status, failure.retry_after, failure.attempts) == (418, 2.5, ())
    assert (error("No.").status, error("No.").retry_after) == (None, None)


def test_an_invalid_request_names_its_field() -> None:
    assert InvalidRequest("No.", field="messages.0.role").field == "messages.0.role"
    assert InvalidRequest("No.").field is None


def test_an_unknown_model_lists_the_known_names() -> None:
    assert UnknownModel("No.", known=["a", "b"]).known == ("a", "b")
    assert UnknownModel("No.").known == ()


def test_a_routing_error_keeps_its_attempts_and_retry_after() -> None:
    error = RoutingError("No.", attempts=list(ATTEMPTS), retry_after=3)
    assert (error.attempts, error.retry_after) == (ATTEMPTS, 3)
    assert RoutingError("No.").attempts == ()


@pytest.mark.parametrize("last", UPSTREAM)
def test_the_status_of_all_targets_failed_is_504_if_the_last_one_timed_out(
    last: type[UpstreamError],
) -> None:
    failure = last("Slow.")
    error = AllTargetsFailed("No.", attempts=ATTEMPTS, last=failure, retry_after=3)
    assert error.http_status == (504 if issubclass(last, UpstreamTimeout) else 502)
    assert (error.last, error.attempts, error.retry_after) == (failure, ATTEMPTS, 3)
