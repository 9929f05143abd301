"""A provider's messages never contain its key, in any encoding."""

from base64 import b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.errors import RequestRejected, ServerFailed
from llm_routing.core.redaction import mask_error, masked, masked_body
from llm_routing.core.vendor_details import Basis, VendorDetails

KEY = "plain/words+that=look.like-nothing"
HEADERS = {"Authorization": f"Bearer {KEY}", "X-Title": "A title that is shown"}
FORMS = (
    KEY,
    KEY.upper(),
    f"Bearer {KEY}",
    quote(KEY, safe=""),
    KEY.replace("/", "\\/"),
    KEY.encode().hex(),
    b64encode(KEY.encode()).decode(),
    b64encode(f"user:{KEY}".encode()).decode(),
    b64encode(f"us:{KEY}".encode()).decode(),
    b64encode(f":{KEY}".encode()).decode(),
    b64encode(f"{KEY}:".encode()).decode(),
)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_key_is_masked(form: str) -> None:
    said = masked(f"The key {form} and {form} again: A title that is shown", HEADERS)
    assert form[4:-4] not in said
    assert said.startswith("The key ")
    assert said.endswith(" again: A title that is shown")
    assert said.count("***") >= 2


@pytest.mark.parametrize("form", [form for form in FORMS if form != KEY.upper()])
def test_keys_in_a_body_are_masked(form: str) -> None:
    assert form[4:-4].encode() not in masked_body(f'{{"error": "{form}"}}'.encode(), HEADERS)


def test_the_beginning_of_a_key_before_a_cut_is_masked() -> None:
    assert masked(f"Wrong: {KEY[:20]}…", HEADERS) == "Wrong: ***…"
    assert masked(f"Wrong: {KEY[:5]}…", HEADERS) == f"Wrong: {KEY[:5]}…"
    assert masked(f"Wrong: {KEY[:20]}", HEADERS) == f"Wrong: {KEY[:20]}"


def test_characters_that_grow_in_lower_case_do_not_prevent_masking() -> None:
    assert masked(f"\u0130 {KEY}", HEADERS) == "\u0130 ***"


def test_short_values_and_public_headers_are_not_masked() -> None:
    assert masked("none of it", {"Authorization": "Bearer none"}) == "none of it"
    assert masked("2023-06-01", {"anthropic-version": "2023-06-01"}) == "2023-06-01"
    assert masked("secret-of-portkey", {"x-portkey-config": "secret-of-portkey"}) == "***"


@given(st.text(max_size=200))
def test_other_text_is_unchanged(text: str) -> None:
    assert masked(text, {"x-api-key": "\U0001f512-not-in-there"}) == text


def test_no_part_of_an_error_contains_the_key() -> None:
    details = VendorDetails(
        "openai_chat",
        400,
        Basis.CODE,
        type="t",
        code=KEY,
        param=KEY,
        reason=f"no {KEY}",
        unsupported=("a", KEY),
    )
    error = RequestRejected(f"No: {KEY}", status=400, details=details)
    mask_error(error, HEADERS)
    assert (error.message, str(error)) == ("No: ***", "No: ***")
    assert error.details is not None
    assert KEY not in repr(error.details)
    assert error.details.type == "t"
    plain = ServerFailed("Broken.")
    mask_error(plain, HEADERS)
    assert plain.message == "Broken."
