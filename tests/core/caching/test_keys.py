"""Cache keys: equal only for equal requests, and not to be guessed."""

from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.caching.keys import digest

SECRET = b"secret"


@given(st.lists(st.text() | st.binary()), st.lists(st.text() | st.binary()))
def test_only_equal_requests_have_equal_keys(
    one: list[str | bytes], other: list[str | bytes]
) -> None:
    def plain(parts: list[str | bytes]) -> list[bytes]:
        return [
            part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            for part in parts
        ]

    assert (digest(SECRET, one) == digest(SECRET, other)) is (plain(one) == plain(other))


def test_a_key_cannot_be_guessed_without_the_secret() -> None:
    assert digest(SECRET, ["Hi"]) != digest(b"another", ["Hi"])
    assert len(digest(SECRET, ["Hi"])) == 64
