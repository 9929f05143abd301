"""Secrets go in and never come out: provider keys are only written, our own keys shown once."""

import logging

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.urls import reverse

from llm_routing.admin.providers import ProviderAdmin
from llm_routing.crypto.at_rest import decrypt, mask
from llm_routing.models import ApiKey, Provider
from llm_routing.models.access import key_digest
from tests import rows

CLEAR_TEXT = "sk-proj-0123456789abcdef"


def form_of(provider, **values):
    """Returns the form data of a provider."""
    data = {
        "name": provider.name if provider else "acme",
        "vendor": provider.vendor if provider else "openai",
        "base_url": provider.base_url if provider else "",
        "api_key_env": "",
        "api_key": "",
        "is_active": "on",
        "priority": "100",
        "notes": "",
    }
    return data | values


@pytest.fixture
def provider(db):
    row = rows.provider()
    row.set_api_key(CLEAR_TEXT)
    row.save()
    return row


@pytest.fixture
def change(operator, url, provider):
    """Posts the provider's form and returns the answer."""

    def post(**values):
        return operator.post(url("provider", "change", provider.pk), form_of(provider, **values))

    return post


def stored(provider):
    return decrypt(Provider.objects.get(pk=provider.pk).encrypted_key)


class TestProviderKey:
    def test_a_new_provider_is_saved_with_its_key(self, operator, url):
        answer = operator.post(url("provider", "add"), form_of(None, api_key=CLEAR_TEXT))
        assert answer.status_code == 302
        assert stored(Provider.objects.get(name="acme")) == CLEAR_TEXT

    def test_no_page_shows_a_stored_key(self, operator, url, provider):
        for page in (
            operator.get(url("provider", "change", provider.pk)),
            operator.get(url("provider")),
            operator.get(url("provider", "history", provider.pk)),
            operator.get(url("provider", "changes")),
        ):
            text = page.content.decode()
            assert CLEAR_TEXT not in text
            assert provider.encrypted_key not in text

    def test_an_address_that_lacks_its_path_is_saved_with_a_hint(self, operator, url):
        data = form_of(None, base_url="https://llm.example", api_key=CLEAR_TEXT)
        answer = operator.post(url("provider", "add"), data, follow=True)
        assert Provider.objects.get(name="acme").base_url == "https://llm.example"
        assert any("ends with /v1" in str(message) for message in answer.context["messages"])

    def test_the_form_shows_a_mask_as_a_hint_and_not_as_a_value(self, operator, url, provider):
        page = operator.get(url("provider", "change", provider.pk))
        assert mask(CLEAR_TEXT) in page.content.decode()
        field = page.context["adminform"].form["api_key"]
        assert 'type="password"' in str(field)
        assert "value=" not in str(field)

    def test_a_blank_field_keeps_the_key(self, change, provider):
        assert change(notes="new").status_code == 302
        assert stored(provider) == CLEAR_TEXT
        assert Provider.objects.get().notes == "new"

    def test_another_key_takes_its_place(self, change, provider):
        assert change(api_key="sk-proj-another-key-9876").status_code == 302
        assert stored(provider) == "sk-proj-another-key-9876"

    @pytest.mark.parametrize("text", ["••••cdef", "sk-...cdef", "sk-***", "********"])
    def test_a_masked_key_is_never_saved_over_the_real_one(self, change, provider, text):
        answer = change(api_key=text)
        assert answer.status_code == 200
        assert "masked key" in answer.content.decode()
        assert stored(provider) == CLEAR_TEXT

    def test_a_box_clears_the_key(self, change, provider):
        assert change(clear_api_key="on").status_code == 302
        assert not Provider.objects.get().has_stored_key

    def test_a_new_key_and_the_box_together_are_a_mistake(self, change, provider):
        answer = change(clear_api_key="on", api_key="sk-proj-another-key-9876")
        assert "Either enter a new key" in answer.content.decode()
        assert stored(provider) == CLEAR_TEXT

    @pytest.mark.parametrize(
        "values", [{"base_url": "https://elsewhere.example/v1"}, {"vendor": "groq"}]
    )
    def test_a_stored_key_does_not_follow_to_another_address(self, change, provider, values):
        answer = change(**values)
        assert "The address has changed" in answer.content.decode()
        assert Provider.objects.get().base_url == ""
        assert change(**values, api_key="sk-proj-another-key-9876").status_code == 302

    @pytest.mark.parametrize(
        "values",
        [
            {"base_url": "https://elsewhere.example/v1", "api_key_env": "ACME_API_KEY"},
            {"base_url": "http://api.openai.com/v1", "api_key_env": "ACME_API_KEY"},
        ],
    )
    def test_sending_a_key_of_the_environment_elsewhere_needs_a_permission(
        self, operator_with, url, provider, values
    ):
        provider.clear_api_key()
        provider.save()
        address = url("provider", "change", provider.pk)
        colleague = operator_with("change_provider")
        answer = colleague.post(address, form_of(provider, **values))
        assert "would be sent to an address" in answer.content.decode()
        assert Provider.objects.get().base_url == ""
        newcomer = operator_with("add_provider")
        answer = newcomer.post(url("provider", "add"), form_of(None, **values))
        assert "would be sent to an address" in answer.content.decode()
        assert Provider.objects.count() == 1
        trusted = operator_with("change_provider", "send_environment_keys")
        assert trusted.post(address, form_of(provider, **values)).status_code == 302

    def test_the_address_of_a_provider_with_an_environment_key_cannot_be_changed(
        self, operator_with, url, provider
    ):
        Provider.objects.filter(pk=provider.pk).update(
            encrypted_key="", api_key_env="ACME_API_KEY", base_url="https://acme.example/v1"
        )
        provider.refresh_from_db()
        address = url("provider", "change", provider.pk)
        colleague = operator_with("change_provider")
        kept = {"api_key_env": "ACME_API_KEY", "base_url": "https://acme.example/v1"}
        assert colleague.post(address, form_of(provider, **kept, notes="new")).status_code == 302
        moved = kept | {"base_url": "https://elsewhere.example/v1"}
        answer = colleague.post(address, form_of(provider, **moved))
        assert "would be sent to an address" in answer.content.decode()
        at_home = kept | {"base_url": ""}
        assert colleague.post(address, form_of(provider, **at_home)).status_code == 302

    def test_a_form_with_a_mistake_does_not_give_the_typed_key_back(self, change):
        answer = change(api_key="sk-proj-another-key-9876", priority="many")
        assert answer.status_code == 200
        assert "sk-proj-another" not in answer.content.decode()

    def test_a_key_that_cannot_be_read_any_more_is_said_to_be(
        self, operator, url, provider, settings
    ):
        Provider.objects.update(encrypted_key="gone")
        page = operator.get(url("provider", "change", provider.pk)).content.decode()
        assert "can no longer be read" in page

    def test_a_changed_key_is_on_record_without_the_key(self, operator, url, change, provider):
        change(api_key="sk-proj-another-key-9876")
        assert "API key" in LogEntry.objects.latest("id").get_change_message()
        page = operator.get(url("provider", "history", provider.pk)).content.decode()
        assert "API key changed" in page
        assert "sk-proj-another" not in page + LogEntry.objects.latest("id").change_message

    @pytest.mark.parametrize("debug", [True, False])
    def test_an_error_page_shows_no_key(
        self, provider, operator, url, settings, monkeypatch, debug
    ):
        def fail(self, request, obj, form, change):
            typed = form.cleaned_data["api_key"]
            raise RuntimeError(f"{len(typed)} characters")

        settings.DEBUG = debug
        operator.raise_request_exception = False
        monkeypatch.setattr(ProviderAdmin, "save_model", fail)
        answer = operator.post(
            url("provider", "change", provider.pk),
            form_of(provider, api_key="sk-proj-another-key-9876"),
        )
        assert answer.status_code == 500
        assert ("24 characters" in answer.content.decode()) is debug
        assert "sk-proj-another" not in answer.content.decode()
        assert CLEAR_TEXT not in answer.content.decode()

    def test_view_permission_shows_no_key_field(self, operator_with, url, provider):
        client = operator_with("view_provider")
        page = client.get(url("provider", "change", provider.pk))
        assert page.status_code == 200
        assert 'name="api_key"' not in page.content.decode()
        assert CLEAR_TEXT not in page.content.decode()
        answer = client.post(
            url("provider", "change", provider.pk), form_of(provider, api_key="sk-new-key-12345")
        )
        assert answer.status_code == 403
        assert stored(provider) == CLEAR_TEXT


class TestIssuedKey:
    def issue(self, operator, url, **values):
        return operator.post(url("apikey", "add"), {"name": "billing", "tenant": "acme", **values})

    def clear_text(self, answer):
        return answer.context["clear_text"]

    def test_the_answer_itself_shows_the_key(self, operator, url):
        answer = self.issue(operator, url)
        assert answer.status_code == 200
        text = self.clear_text(answer)
        assert f'value="{text}"' in answer.content.decode()
        assert ApiKey.objects.get(digest=key_digest(text)).tenant == "acme"
        assert "no-store" in answer["Cache-Control"]

    def test_it_is_shown_this_once_and_waits_nowhere(self, operator, url, caplog):
        caplog.set_level(logging.DEBUG)
        answer = self.issue(operator, url)
        text = self.clear_text(answer)
        cookies = " ".join(morsel.OutputString() for morsel in operator.cookies.values())
        session = str([session.get_decoded() for session in Session.objects.all()])
        key = ApiKey.objects.get()
        pages = [
            operator.get(url("apikey")),
            operator.get(url("apikey", "change", key.pk)),
            operator.get(url("apikey", "history", key.pk)),
            operator.get(reverse("admin:index")),
        ]
        everything = cookies + session + caplog.text + str(list(LogEntry.objects.values()))
        everything += "".join(page.content.decode() for page in pages)
        assert text not in everything
        assert key.digest not in everything
        assert f"{key.prefix}…" in pages[0].content.decode()

    def test_sending_the_form_again_issues_no_second_key(self, operator, url):
        self.issue(operator, url)
        answer = self.issue(operator, url)
        assert "already a key with this name" in answer.content.decode()
        assert ApiKey.objects.count() == 1

    @pytest.mark.parametrize("button", ["_addanother", "_continue", "_popup"])
    def test_whatever_button_was_pressed_the_key_is_shown(self, operator, url, button):
        answer = self.issue(operator, url, **{button: "1"})
        assert self.clear_text(answer) in answer.content.decode()

    def test_a_change_keeps_the_key(self, operator, url):
        text = self.clear_text(self.issue(operator, url))
        key = ApiKey.objects.get()
        answer = operator.post(
            url("apikey", "change", key.pk),
            {"name": "renamed", "tenant": "acme", "is_active": "on"},
        )
        assert answer.status_code == 302
        assert ApiKey.objects.get(digest=key_digest(text)).name == "renamed"

    def test_an_error_page_shows_no_key(self, operator, url, settings, monkeypatch):
        settings.DEBUG = True
        operator.raise_request_exception = False
        seen = []

        def fail(self, *args, **kwargs):
            seen.append(self.issued.get_secret_value())
            raise RuntimeError("after the key was made")

        monkeypatch.setattr(ApiKey, "save", fail)
        page = self.issue(operator, url).content.decode()
        assert "after the key was made" in page
        assert seen[0] not in page

    @pytest.mark.parametrize(("values", "text"), [({"is_active": False}, "Revoked"), ({}, "Valid")])
    def test_a_key_s_status_at_a_glance(self, operator, url, values, text):
        ApiKey.objects.issue("key")
        ApiKey.objects.update(**values or {"is_active": True})
        assert f"</span> {text}</span>" in operator.get(url("apikey")).content.decode()

    def test_an_expired_key(self, operator, url):
        key, _clear_text = ApiKey.objects.issue("key")
        ApiKey.objects.update(expires_at=key.created_at)
        assert "</span> Expired</span>" in operator.get(url("apikey")).content.decode()
