"""Values shared by processes are sealed: others can neither read nor replace them."""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest

from llm_routing.crypto.in_transit import MAX_SALTS, Sealing

OLD, NEW = b"o" * 32, b"n" * 32
NAME = "shelf:one"
TEXT = "sk-secret, \u00fcber alles"


def test_a_value_sealed_by_one_process_is_opened_by_another() -> None:
    token = Sealing([NEW]).encrypt(TEXT, NAME)
    assert Sealing([NEW]).decrypt(token, NAME) == TEXT
    assert "secret" not in token
    assert token.isascii()


def test_equal_texts_look_different() -> None:
    sealing = Sealing([NEW])
    assert sealing.encrypt(TEXT, NAME) != sealing.encrypt(TEXT, NAME)
    assert Sealing([NEW]).encrypt(TEXT, NAME)[:20] != Sealing([NEW]).encrypt(TEXT, NAME)[:20]


def test_a_key_that_was_replaced_still_opens_and_seals_nothing() -> None:
    both = Sealing([NEW, OLD])
    assert both.decrypt(Sealing([OLD]).encrypt(TEXT, NAME), NAME) == TEXT
    with pytest.raises(ValueError):
        Sealing([OLD]).decrypt(both.encrypt(TEXT, NAME), NAME)


@pytest.mark.parametrize("token", ["", "x", "gAAAAABfernet", "\u00fc", "AAAA" * 40])
def test_an_invalid_token_is_rejected(token: str) -> None:
    with pytest.raises(ValueError):
        Sealing([NEW]).decrypt(token, NAME)


def test_a_token_that_was_changed_anywhere_is_refused() -> None:
    sealing = Sealing([NEW])
    data = urlsafe_b64decode(sealing.encrypt(TEXT, NAME))
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(ValueError):
            sealing.decrypt(urlsafe_b64encode(changed).decode(), NAME)


def test_a_token_opens_only_under_the_name_it_was_sealed_for() -> None:
    sealing = Sealing([NEW])
    token = sealing.encrypt(TEXT, "table:7")
    for name in ("table:6", "table:77", "table:", ""):
        with pytest.raises(ValueError):
            sealing.decrypt(token, name)
    assert sealing.decrypt(token, "table:7") == TEXT


def test_tokens_of_more_processes_than_are_kept_in_mind() -> None:
    reader = Sealing([NEW])
    tokens = [Sealing([NEW]).encrypt(str(number), NAME) for number in range(MAX_SALTS + 5)]
    assert [reader.decrypt(token, NAME) for token in tokens] == [
        str(n) for n in range(MAX_SALTS + 5)
    ]


def test_a_forked_child_never_seals_as_its_parent_does() -> None:
    sealing = Sealing([NEW])
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, sealing.encrypt(TEXT, NAME).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read()
    os.waitpid(child, 0)
    ours = sealing.encrypt(TEXT, NAME)
    assert urlsafe_b64decode(theirs)[:28] != urlsafe_b64decode(ours)[:28]
    assert sealing.decrypt(theirs, NAME) == TEXT
