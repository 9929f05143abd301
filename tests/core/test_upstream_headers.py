"""Callers receive the vendor's request id and rate limits, and no other headers."""

import pytest

from llm_routing.core.upstream_headers import MAX_HEADERS, forwarded_headers


def test_only_request_id_and_rate_limits_are_forwarded() -> None:
    assert forwarded_headers(
        {
            "content-type": "application/json",
            "set-cookie": "session=1",
            "x-request-id": "req_1",
            "openai-organization": "acme",
            "anthropic-organization-id": "org",
            "x-ratelimit-remaining-tokens": "149984",
            "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:00Z",
            "ratelimit-policy": '"default";q=100;w=1',
            "retry-after": "7",
            "retry-after-ms": "7000",
            "authorization": "Bearer x",
        }
    ) == {
        "x-upstream-request-id": "req_1",
        "x-upstream-x-ratelimit-remaining-tokens": "149984",
        "x-upstream-anthropic-ratelimit-requests-reset": "2026-01-01T00:00:00Z",
        "x-upstream-ratelimit-policy": '"default";q=100;w=1',
        "x-upstream-retry-after": "7",
        "x-upstream-retry-after-ms": "7000",
    }
    assert not forwarded_headers({"content-type": "text/html", "date": "now"})


@pytest.mark.parametrize(
    "name", ["x-request-id", "request-id", "x-amzn-requestid", "apim-request-id", "x-generation-id"]
)
def test_each_vendor_has_its_own_name_for_the_request_id(name: str) -> None:
    assert forwarded_headers({name: "a-1"}) == {"x-upstream-request-id": "a-1"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-request-id": "a b\x00<script>\r\nx"}, {"x-upstream-request-id": "abscriptx"}),
        ({"x-request-id": "x" * 1000}, {"x-upstream-request-id": "x" * 128}),
        ({"x-request-id": "\u202e\n"}, {}),
        ({"x-request-id": "\n", "request-id": "b"}, {"x-upstream-request-id": "b"}),
        ({"x-ratelimit-x": "a\r\nset-cookie: b"}, {}),
        ({"x-ratelimit-x": "é"}, {}),
        ({"x-ratelimit-x": "1" * 129}, {}),
        ({"x-ratelimit-" + "y" * 60: "1"}, {}),
        ({"x-ratelimit-a_b:": "1"}, {}),
    ],
)
def test_hostile_header_values_are_cleaned_or_dropped(
    headers: dict[str, str], expected: dict[str, str]
) -> None:
    assert forwarded_headers(headers) == expected


def test_the_number_of_forwarded_headers_is_bounded() -> None:
    many = {f"x-ratelimit-{number}": "1" for number in range(1000)}
    assert len(forwarded_headers({**many, "x-request-id": "a"})) == MAX_HEADERS + 1
