"""Validation errors of `clean()` before anything is saved."""

import pytest
from django.core.exceptions import ValidationError

from llm_routing.models import ApiKey, ModelConfig, Provider, UseCaseRoute
from tests import rows

pytestmark = pytest.mark.django_db


def errors(row):
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    return caught.value.message_dict


def new_provider(**values):
    return Provider(**{"name": "acme", "vendor": "openai"} | values)


def new_model(**values):
    return ModelConfig(**{"provider": rows.provider(), "model_id": "gpt"} | values)


class TestProvider:
    def test_an_unknown_vendor_is_answered_with_the_known_ones(self):
        assert "openrouter" in errors(new_provider(vendor="acme"))["vendor"][0]

    @pytest.mark.parametrize(
        "url",
        [
            "http://169.254.169.254/v1",
            "http://127.0.0.1:11434/v1",
            "https://user:secret@example.com/v1",
            "https://example.com/v1?key=secret",
        ],
    )
    def test_a_base_url_the_transport_would_refuse(self, url, settings):
        settings.LLM_ROUTING = {"ALLOWED_UPSTREAM_NETWORKS": ()}
        assert list(errors(new_provider(base_url=url))) == ["base_url"]

    def test_a_private_base_url_that_settings_allow(self, settings):
        settings.LLM_ROUTING = {"ALLOWED_UPSTREAM_NETWORKS": ("10.0.0.0/8",)}
        new_provider(base_url="http://10.1.2.3:8000/v1").full_clean()

    def test_a_base_url_loses_blanks_around_it_and_its_last_slash(self):
        row = new_provider(base_url=" https://example.com/v1/ ")
        row.full_clean()
        assert row.base_url == "https://example.com/v1"

    @pytest.mark.parametrize(
        "name", ["DATABASE_URL", "DJANGO_SECRET_KEY", "1API_KEY", "MY-API_KEY"]
    )
    def test_a_variable_that_holds_no_api_key_is_not_sent_anywhere(self, name):
        assert "API_KEY in its name" in errors(new_provider(api_key_env=name))["api_key_env"][0]

    def test_a_vendor_s_variable_is_not_sent_to_another_host(self):
        row = new_provider(base_url="https://example.com/v1", api_key_env="OPENAI_API_KEY")
        assert "key of OpenAI" in errors(row)["api_key_env"][0]
        row = new_provider(vendor="mistral", api_key_env="OPENAI_API_KEY")
        assert "key of OpenAI" in errors(row)["api_key_env"][0]

    def test_a_vendor_s_variable_is_sent_to_the_vendor(self):
        new_provider(api_key_env="OPENAI_API_KEY").full_clean()
        new_provider(
            base_url="https://eu.api.openai.com/v1", api_key_env="OPENAI_API_KEY"
        ).full_clean()

    def test_a_variable_of_its_own_is_sent_to_any_host(self):
        new_provider(base_url="https://example.com/v1", api_key_env="ACME_API_KEY_2").full_clean()


class TestModel:
    def test_an_alias_does_not_hide_a_built_in_use_case(self):
        assert "is the address of a use case" in errors(new_model(alias="debugging"))["alias"][0]
        assert (
            "is the address of a use case"
            in errors(new_model(alias="debugging:premium"))["alias"][0]
        )

    def test_an_alias_does_not_hide_an_operator_s_use_case(self):
        rows.route("translation", is_active=False)
        assert "is the address of a use case" in errors(new_model(alias="translation"))["alias"][0]

    @pytest.mark.parametrize("name", ["team/fast", "Gemini 2.5 Flash", "llama3:8b", "schnell é"])
    def test_an_alias_and_a_use_case_hold_any_name_that_callers_can_send(self, name):
        new_model(alias=name).full_clean()
        UseCaseRoute(use_case=name).full_clean()

    @pytest.mark.parametrize("name", [" fast", "fast ", "fast\nnow", "fast\x00"])
    def test_a_name_is_printable_and_has_no_blank_at_its_ends(self, name):
        assert "printable characters" in errors(new_model(alias=name))["alias"][0]
        assert "printable characters" in errors(UseCaseRoute(use_case=name))["use_case"][0]
        assert "printable characters" in errors(ApiKey(name=name, digest="0" * 64))["name"][0]

    def test_a_use_case_does_not_end_with_a_tier(self):
        row = UseCaseRoute(use_case="chat:premium")
        assert "must not end with" in errors(row)["use_case"][0]

    def test_a_use_case_and_its_tiers_do_not_hide_an_alias(self):
        rows.model("a", alias="chat:premium")
        assert "is the alias of a model" in errors(UseCaseRoute(use_case="chat"))["use_case"][0]

    def test_a_use_case_does_not_hide_an_alias(self):
        rows.model(alias="fast")
        row = UseCaseRoute(use_case="fast")
        assert "alias of a model" in errors(row)["use_case"][0]

    def test_any_other_use_case_will_do(self):
        UseCaseRoute(use_case="translation-2").full_clean()

    @pytest.mark.parametrize("allowed", [["everything"], "models", {"models": 1}, [1]])
    def test_only_closed_fields_can_be_allowed(self, allowed):
        row = UseCaseRoute(use_case="translation", allowed_fields=allowed)
        assert "service_tier" in errors(row)["allowed_fields"][0]
        UseCaseRoute(use_case="translation", allowed_fields=["models"]).full_clean()

    @pytest.mark.parametrize("capabilities", [["chat", "telepathy"], "chat", {"chat": True}, [1]])
    def test_capabilities_are_a_list_of_known_ones(self, capabilities):
        row = new_model(capabilities=capabilities)
        assert "json_schema" in errors(row)["capabilities"][0]

    @pytest.mark.parametrize("quirks", [["no_sampling", "moody"], "no_sampling", {}, [1], [[]]])
    def test_quirks_are_a_list_of_known_ones(self, quirks):
        row = new_model(quirks=quirks)
        assert "no_sampling" in errors(row)["quirks"][0]

    def test_no_capability_at_all_is_a_list_too(self):
        new_model(capabilities=[]).full_clean()

    def test_a_new_model_can_chat_and_stream(self):
        assert new_model().capabilities == ["chat", "streaming"]

    def test_an_answer_fits_the_context_window(self):
        row = new_model(context_window=1000, max_output_tokens=1001)
        assert "longer than the context window" in errors(row)["max_output_tokens"][0]
        new_model(context_window=1000, max_output_tokens=1000).full_clean()

    @pytest.mark.parametrize("model_id", ["gpt 5", "gpt\n5", " "])
    def test_a_model_id_has_no_blanks(self, model_id):
        assert list(errors(new_model(model_id=model_id))) == ["model_id"]

    @pytest.mark.parametrize("model_id", ["gpt-5", "anthropic/claude-4.5", "llama3:8b", "@cf/x"])
    def test_a_vendor_s_own_spelling_of_a_model_id(self, model_id):
        new_model(model_id=model_id).full_clean()

    def test_a_model_is_addressed_by_provider_and_id(self):
        assert str(rows.model("a/b")) == "openai/a/b"
        assert str(ModelConfig(model_id="lonely")) == "lonely"

    def test_a_model_has_a_price_when_both_are_known(self):
        assert not new_model(input_price=1).is_priced
        assert new_model(input_price=0, output_price=0).is_priced
