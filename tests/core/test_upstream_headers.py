"""Callers see the vendor's request id and rate limits, and no other header of it."""

import pytest

from llm_routing.core.upstream_headers import MAX_HEADERS, forwarded_headers


def test_request_id_and_limits_are_handed_on_and_nothing_else() -> None:
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
def test_what_a_hostile_vendor_sends_is_cleaned_or_left_out(
    headers: dict[str, str], expected: dict[str, str]
) -> None:
    assert forwarded_headers(headers) == expected


def test_there_are_not_more_than_so_many() -> None:
    many = {f"x-ratelimit-{number}": "1" for number in range(1000)}
    assert len(forwarded_headers({**many, "x-request-id": "a"})) == MAX_HEADERS + 1
