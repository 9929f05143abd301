"""Keys at rest: encrypted or digested, masked when shown, readable after a change of keys."""

import logging
from base64 import urlsafe_b64decode
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet, InvalidToken
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError
from django.utils import timezone

from llm_routing.crypto.at_rest import (
    Purpose,
    SecretUnreadable,
    decrypt,
    encrypt,
    encryption_keys,
    is_mask,
    mask,
)
from llm_routing.crypto.in_transit import Sealing
from llm_routing.models import ApiKey, Provider
from llm_routing.models.access import key_digest

CLEAR_TEXT = "sk-proj-0123456789abcdef"


class TestEncryption:
    def test_an_encrypted_key_can_be_decrypted(self):
        token = encrypt(CLEAR_TEXT)
        assert CLEAR_TEXT not in token
        assert decrypt(token) == CLEAR_TEXT

    def test_equal_texts_get_different_tokens(self):
        assert encrypt(CLEAR_TEXT) != encrypt(CLEAR_TEXT)

    @pytest.mark.parametrize("token", ["", "nonsense", "gAAAAA", "schlüssel"])
    def test_an_invalid_token_is_unreadable(self, token):
        with pytest.raises(SecretUnreadable):
            decrypt(token)

    def test_another_secret_key_reads_nothing(self, settings):
        token = encrypt(CLEAR_TEXT)
        settings.SECRET_KEY = "another"
        with pytest.raises(SecretUnreadable) as caught:
            decrypt(token)
        assert token not in str(caught.value)

    @pytest.mark.parametrize("old", ["old", b"old"])
    def test_a_secret_key_that_was_rotated_still_reads(self, settings, old):
        settings.SECRET_KEY = old
        token = encrypt(CLEAR_TEXT)
        settings.SECRET_KEY = "new"
        settings.SECRET_KEY_FALLBACKS = ["older", old]
        assert decrypt(token) == CLEAR_TEXT

    def test_keys_of_the_settings_come_first_and_may_rotate(self, settings):
        by_default = encrypt(CLEAR_TEXT)
        old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
        settings.LLM_ROUTING = {"ENCRYPTION_KEYS": [old]}
        by_old = encrypt(CLEAR_TEXT)
        settings.LLM_ROUTING = {"ENCRYPTION_KEYS": [new, old]}
        by_new = encrypt(CLEAR_TEXT)
        for token in (by_new, by_old, by_default):
            assert decrypt(token) == CLEAR_TEXT
        settings.LLM_ROUTING = {"ENCRYPTION_KEYS": [old]}
        assert decrypt(by_old) == CLEAR_TEXT
        with pytest.raises(SecretUnreadable):
            decrypt(by_new)

    def test_the_key_of_the_settings_itself_opens_nothing(self, settings):
        key = Fernet.generate_key()
        settings.LLM_ROUTING = {"ENCRYPTION_KEYS": [key.decode()]}
        with pytest.raises(InvalidToken):
            Fernet(key).decrypt(encrypt(CLEAR_TEXT))
        with pytest.raises(SecretUnreadable):
            decrypt(Fernet(key).encrypt(b"a token made elsewhere").decode())

    def test_a_key_of_the_wrong_form_is_named_but_not_shown(self, settings):
        settings.LLM_ROUTING = {"ENCRYPTION_KEYS": ["hunter2"]}
        with pytest.raises(ImproperlyConfigured, match="LLM_ENCRYPTION_KEYS") as caught:
            encrypt(CLEAR_TEXT)
        assert "hunter2" not in str(caught.value)


class TestPurposes:
    @pytest.mark.parametrize("made_for", Purpose)
    @pytest.mark.parametrize("opened_as", Purpose)
    def test_a_token_opens_for_the_purpose_it_was_made_for_and_no_other(
        self, made_for, opened_as, settings
    ):
        settings.LLM_ROUTING = {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
        token = Sealing(encryption_keys(made_for)).encrypt(CLEAR_TEXT, "name")
        opening = Sealing(encryption_keys(opened_as))
        if made_for is opened_as:
            assert opening.decrypt(token, "name") == CLEAR_TEXT
        else:
            with pytest.raises(ValueError, match="another key"):
                opening.decrypt(token, "name")
        with pytest.raises(SecretUnreadable):
            decrypt(token)

    def test_every_purpose_has_keys_of_its_own_from_each_of_our_keys(self, settings):
        own = [Fernet.generate_key().decode() for _ in range(2)]
        settings.LLM_ROUTING = {"ENCRYPTION_KEYS": own}
        settings.SECRET_KEY_FALLBACKS = ["older"]
        keys = [key for purpose in Purpose for key in encryption_keys(purpose)]
        assert len(keys) == 4 * len(Purpose)
        assert len(set(keys)) == len(keys)
        assert {len(key) for key in keys} == {32}
        assert not set(keys) & {urlsafe_b64decode(key) for key in own}


class TestMask:
    def test_a_long_key_shows_its_last_four_characters(self):
        assert mask(CLEAR_TEXT) == "••••cdef"

    @pytest.mark.parametrize("short", ["", "abc", "fifteen-letters"])
    def test_a_short_one_shows_nothing(self, short):
        assert mask(short) == "••••"

    @pytest.mark.parametrize("text", [mask(CLEAR_TEXT), "sk-…cdef", "sk-***cdef", "sk-...cdef"])
    def test_a_mask_is_recognised(self, text):
        assert is_mask(text)

    def test_a_key_is_no_mask(self):
        assert not is_mask(CLEAR_TEXT)


class TestProviderKey:
    def test_a_key_is_stored_encrypted_and_dated(self):
        row = Provider(name="acme", vendor="openai")
        row.set_api_key(f"  {CLEAR_TEXT}\n")
        assert row.has_stored_key
        assert row.key_changed_at is not None
        assert decrypt(row.encrypted_key) == CLEAR_TEXT

    @pytest.mark.parametrize(
        "text",
        ["", "   ", "••••cdef", "sk-...cdef", "sk two", "sk\nX-Evil: 1", "schlüssel", "a\x00b"],
    )
    def test_an_invalid_key_is_rejected_and_changes_nothing(self, text):
        row = Provider(name="acme", vendor="openai")
        row.set_api_key(CLEAR_TEXT)
        before = row.encrypted_key, row.key_changed_at
        with pytest.raises(ValueError) as caught:
            row.set_api_key(text)
        assert (row.encrypted_key, row.key_changed_at) == before
        assert not text.strip() or text not in str(caught.value)

    def test_a_key_is_cleared(self):
        row = Provider(name="acme", vendor="openai")
        row.set_api_key(CLEAR_TEXT)
        set_at = row.key_changed_at
        row.clear_api_key()
        assert not row.has_stored_key
        assert set_at is not None
        assert row.key_changed_at is not None
        assert row.key_changed_at > set_at

    def test_without_a_stored_key_nothing_is_cleared(self):
        row = Provider(name="acme", vendor="openai")
        row.clear_api_key()
        assert row.key_changed_at is None


class TestDigest:
    def test_a_digest_is_64_hex_digits_and_depends_on_the_key(self):
        digest = key_digest("sk-llm-a")
        assert len(bytes.fromhex(digest)) == 32
        assert digest == key_digest("sk-llm-a") != key_digest("sk-llm-b")

    def test_it_depends_on_the_secret_key(self, settings):
        before = key_digest("sk-llm-a")
        settings.SECRET_KEY = "another"
        assert key_digest("sk-llm-a") != before

    def test_with_a_pepper_of_its_own_it_survives_a_new_secret_key(self, settings):
        settings.LLM_ROUTING = {"KEY_PEPPER": "pepper"}
        before = key_digest("sk-llm-a")
        settings.SECRET_KEY = "another"
        assert key_digest("sk-llm-a") == before
        settings.LLM_ROUTING = {"KEY_PEPPER": "salt"}
        assert key_digest("sk-llm-a") != before

    @pytest.mark.parametrize("text", ["", "\ud800", "ключ", "x" * 10_000])
    def test_anything_a_caller_may_send_has_a_digest(self, text):
        assert len(key_digest(text)) == 64


@pytest.mark.django_db
class TestIssue:
    def test_the_clear_text_is_given_once_and_found_again_by_its_digest(self, caplog):
        caplog.set_level(logging.DEBUG)
        key, clear_text = ApiKey.objects.issue("billing", tenant="acme")
        assert clear_text.startswith("sk-llm-")
        assert len(clear_text) == len("sk-llm-") + 43
        assert key.prefix == clear_text[:12]
        stored = ApiKey.objects.get(digest=key_digest(clear_text))
        assert (stored.name, stored.tenant, stored.is_active) == ("billing", "acme", True)
        assert clear_text not in str(vars(stored)) + repr(key) + caplog.text

    def test_every_key_is_another(self):
        assert ApiKey.objects.issue("a")[1] != ApiKey.objects.issue("b")[1]

    def test_a_name_is_given_once(self):
        ApiKey.objects.issue("a")
        with pytest.raises(IntegrityError):
            ApiKey.objects.issue("a")

    def test_usable_keys_are_neither_revoked_nor_expired(self):
        now = timezone.now()
        ApiKey.objects.issue("good")
        ApiKey.objects.issue("later", expires_at=now + timedelta(hours=1))
        expired, _clear_text = ApiKey.objects.issue("expired", expires_at=now)
        ApiKey.objects.issue("revoked")
        ApiKey.objects.filter(name="revoked").update(is_active=False)
        assert expired.is_expired
        assert {key.name for key in ApiKey.objects.usable()} == {"good", "later"}
        assert {key.name for key in ApiKey.objects.usable(now - timedelta(hours=1))} == {
            "good",
            "later",
            "expired",
        }
