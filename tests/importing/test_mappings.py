"""Mappings in JSON and YAML: their shapes, the models they name, and files that are rejected."""

from itertools import pairwise

import pytest

from llm_routing.importing.model_locations import COMPATIBLE_SERVICES
from llm_routing.importing.text import CannotRead
from llm_routing.vendors import VENDORS

from .conftest import SAMPLES, plan_of, said
from .planned import from_value, models, routes


def test_a_service_that_became_a_vendor_is_no_longer_listed_as_compatible():
    assert set(COMPATIBLE_SERVICES) & set(VENDORS) == set()


class TestJson:
    @pytest.fixture
    def plan(self):
        return plan_of(SAMPLES / "mappings.json")

    def test_dictionaries_with_provider_and_fallbacks(self, plan):
        route = routes(plan)["debugging:premium"]
        assert models(route) == [
            "anthropic/claude-opus-5-5", "openai/gpt-6-astra", "google/gemini-4-argon",
        ]  # fmt: skip
        assert (route.temperature, route.max_tokens, route.deadline) == (0.1, 4000, 45)

    def test_a_relay_serves_names_of_other_vendors_and_the_fallbacks(self, plan):
        route = routes(plan)["summaries:standard"]
        assert models(route) == [
            "openrouter/anthropic/claude-haiku-5-5", "openrouter/openai/gpt-6-luna",
        ]  # fmt: skip
        assert not route.is_active

    def test_a_tier_by_another_name_is_noted(self, plan):
        assert models(routes(plan)["debugging:economy"]) == ["openai/gpt-6-luna"]
        assert "economy" in said(plan.notes)["model_mappings[debugging][fast]"]

    def test_a_list_is_a_model_and_its_fallbacks(self, plan):
        assert models(routes(plan)["chat_conversation:standard"]) == [
            "openai/gpt-6.1-sol", "anthropic/claude-sonnet-5-5",
        ]  # fmt: skip

    def test_settings_without_an_equivalent_are_reported(self, plan):
        assert {where.rpartition(".")[2] for where in said(plan.unmapped)} == {
            "cost_per_1k_tokens", "model", "model_mappings[poetry]", "version",
        }  # fmt: skip

    def test_the_same_in_yaml(self, written, plan):
        text = (
            "mappings:\n  debugging:\n    premium: {model: openai/gpt-6-astra, temperature: 0.1}\n"
        )
        found = plan_of(written(text, "m.yml"))
        assert models(routes(found)["debugging:premium"]) == ["openai/gpt-6-astra"]


class TestShapes:
    def test_tiers_outside(self, written):
        plan = from_value(
            written,
            {"premium": {"debugging": "openai/gpt-6-astra"}, "economy": "openai/gpt-6-luna"},
        )
        assert set(routes(plan)) == {"debugging:premium", "general_purpose:economy"}

    def test_names_of_use_cases(self, written):
        plan = from_value(written, {"DEBUGGING": "gpt-6-luna", "Our Triage!": "gpt-6-luna"})
        assert set(routes(plan)) == {"debugging:standard", "Our Triage!:standard"}
        assert plan.notes == ()

    def test_blanks_at_the_ends_of_names(self, written):
        plan = from_value(
            written,
            {" debugging ": {" premium ": " openai/gpt-6-astra "}, " triage ": "gpt-6-luna "},
        )
        assert set(routes(plan)) == {"debugging:premium", "triage:standard"}
        assert [model.key for model in plan.models] == ["openai/gpt-6-astra", "openai/gpt-6-luna"]
        assert plan.unmapped == ()

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("gpt-6-luna", "openai/gpt-6-luna"),
            ("o4-mini", "openai/o4-mini"),
            ("claude-opus-5-5", "anthropic/claude-opus-5-5"),
            ("gemini/gemini-4-argon", "google/gemini-4-argon"),
            ("codestral-2603", "mistral/codestral-2603"),
            ("together_ai/acme/chat-70b", "together/acme/chat-70b"),
            ("ollama/llama9:8b", "ollama/llama9:8b"),
            ("openrouter/openai/gpt-6-luna", "openrouter/openai/gpt-6-luna"),
            ("@prod/gpt-6-luna", "portkey/@prod/gpt-6-luna"),
            ("meta-llama/llama-9-70b", "openrouter/meta-llama/llama-9-70b"),
            ("xai/grok-9", "xai/grok-9"),
        ],
    )
    def test_the_location_of_a_model(self, written, name, expected):
        plan = from_value(written, {"debugging": name})
        assert [model.key for model in plan.models] == [expected]

    @pytest.mark.parametrize("name", ["", "a b", "llama9", "vertex_ai/x", "openai/", "x" * 300, 7])
    def test_a_model_that_lives_nowhere_is_listed(self, written, name):
        plan = from_value(written, {"debugging": name})
        assert plan.models == plan.providers == plan.routes == ()
        assert plan.unmapped

    def test_names_through_another_vendor(self, written):
        value = {"debugging": ["anthropic/claude-opus-5", "openrouter/x/y", "gpt-6-luna"]}
        plan = from_value(written, value, through="openrouter")
        assert [model.key for model in plan.models] == [
            "openrouter/anthropic/claude-opus-5", "openrouter/x/y", "openai/gpt-6-luna",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "values",
        [
            {"temperature": 3},
            {"temperature": "hot"},
            {"max_tokens": 0},
            {"max_tokens": 1.5},
            {"max_tokens": True},
            {"timeout": -1},
            {"system_prompt": "the key is sk-abcdefgh12345678"},
            {"system_prompt": ["a"]},
            {"frequency_penalty": 1},
        ],
    )
    def test_a_value_that_a_route_cannot_have_is_listed(self, written, values):
        plan = from_value(written, {"debugging": {"model": "gpt-6-luna", **values}})
        (route,) = plan.routes
        assert (route.temperature, route.max_tokens, route.deadline) == (None, None, None)
        assert route.system_prompt == ""
        assert plan.unmapped

    @pytest.mark.parametrize(
        "value", [{}, {"debugging": {}}, {"debugging": []}, {"debugging": 7}, [{"model": "x"}], [3]]
    )
    def test_a_mapping_of_nothing_is_listed_or_refused(self, written, value):
        try:
            plan = from_value(written, value)
        except CannotRead:
            return
        assert plan.routes == ()
        assert plan.unmapped or value == {}


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("m.json", "{"),
            ("m.json", "[]"),
            ("m.json", '"x"'),
            ("m.json", '{"mappings": {"a": 1, "a": 2}}'),
            ("m.json", "[" * 100_000),
            ("m.yaml", "a: [b"),
            ("m.yaml", "a: 1\na: 2\n"),
            ("m.yaml", "!!python/object/apply:os.system ['true']"),
            ("m.yaml", "a: &a [x, *a]"),
            (
                "m.yaml",
                "a: &a [1,1,1,1,1,1,1,1,1]\n"
                + "".join(
                    f"{n}: &{n} [{', '.join(['*' + p] * 9)}]\n" for p, n in pairwise("abcdefgh")
                ),
            ),
            ("m.toml", "a = 1"),
            ("m", "a"),
        ],
    )
    def test_a_file_without_a_configuration_is_rejected(self, written, name, text):
        with pytest.raises(CannotRead):
            plan_of(written(text, name))

    def test_a_file_that_is_not_there_or_no_text(self, tmp_path):
        with pytest.raises(CannotRead, match="cannot be opened"):
            plan_of(tmp_path / "none.py")
        with pytest.raises(CannotRead, match="cannot be opened"):
            plan_of(tmp_path)
        (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(CannotRead, match="UTF-8"):
            plan_of(tmp_path / "x.json")

    def test_a_file_that_is_too_large(self, written):
        with pytest.raises(CannotRead, match="larger"):
            plan_of(written("#" * (4 * 1024 * 1024 + 1)))
