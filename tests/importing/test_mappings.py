"""Mappings of hard-coded routers, in Python, JSON and YAML."""

import json
from itertools import pairwise

import pytest

from llm_routing.importing.model_locations import COMPATIBLE_SERVICES
from llm_routing.importing.plan import PlannedRoute
from llm_routing.importing.text import CannotRead
from llm_routing.vendors import VENDORS

from .conftest import SAMPLES, SECRETS, plan_of, said


def routes(plan) -> dict[str, PlannedRoute]:
    return {route.name: route for route in plan.routes}


def models(route: PlannedRoute) -> list[str]:
    return [target.model for target in route.targets]


def from_value(written, value, **options):
    return plan_of(written(json.dumps({"mappings": value}), "m.json"), **options)


def test_a_service_that_became_a_vendor_is_no_longer_listed_as_compatible():
    assert set(COMPATIBLE_SERVICES) & set(VENDORS) == set()


class TestPython:
    @pytest.fixture
    def plan(self):
        return plan_of(SAMPLES / "hard_coded_router.py")

    def test_a_mapping_becomes_a_route_with_its_fallbacks(self, plan):
        route = routes(plan)["code_generation:premium"]
        assert [(target.model, target.position) for target in route.targets] == [
            ("anthropic/claude-opus-5-5", 0),
            ("openai/gpt-6-astra", 1),
            ("google/gemini-4-argon", 2),
        ]
        assert (route.temperature, route.max_tokens) == (0.2, 8192)
        assert route.system_prompt == "You write code that is finished. Write short sentences."

    def test_defaults_of_the_files_own_class_count(self, plan):
        route = routes(plan)["code_generation:economy"]
        assert models(route) == ["openai/gpt-6-luna"]
        assert (route.temperature, route.max_tokens, route.system_prompt) == (0.7, 4096, "")

    def test_a_default_in_the_environment_is_taken_with_a_note(self, plan):
        assert models(routes(plan)["debugging:standard"])[0] == "anthropic/claude-sonnet-5-5"
        assert any("DEBUG_MODEL" in note.text for note in plan.notes)

    def test_later_additions_to_a_mapping_are_read(self, plan):
        route = routes(plan)["ticket-triage:standard"]
        assert models(route) == ["openrouter/mistralai/mixtral-8x7b"]

    def test_settings_without_an_equivalent_are_reported(self, plan):
        listed = said(plan.unmapped)
        texts = " ".join(f"{where}: {text}" for where, text in listed.items())
        assert "top_p" in texts
        assert "there is no vendor bedrock" in texts
        assert "there is no tier local" in texts
        assert "TIMEOUTS" in texts
        assert "line 9" in listed

    @pytest.mark.parametrize(
        ("written_as", "environ", "model"),
        [
            ('os.getenv("MAIN_MODEL", "openai/gpt-6-luna")', {}, "openai/gpt-6-luna"),
            ('os.environ.get("MAIN_MODEL", default="openai/gpt-6-luna")', {}, "openai/gpt-6-luna"),
            ('os.getenv("MAIN_MODEL") or "openai/gpt-6-luna"', {}, "openai/gpt-6-luna"),
            (
                'os.getenv("MAIN_MODEL", "openai/gpt-6-luna")',
                {"MAIN_MODEL": "groq/x"},
                "groq/x",
            ),
            ('os.environ["MAIN_MODEL"]', {"MAIN_MODEL": "groq/x"}, "groq/x"),
        ],
    )
    def test_a_value_of_the_environment_counts_before_its_default_and_is_noted(
        self, written, written_as, environ, model
    ):
        text = f"import os\nMODEL = {written_as}\nMODEL_MAPPINGS = {{'debugging': MODEL}}\n"
        plan = plan_of(written(text), environ=environ)
        assert models(routes(plan)["debugging:standard"]) == [model]
        assert "MAIN_MODEL" in said(plan.notes)["line 2"]
        assert model in said(plan.notes)["line 2"]

    def test_a_number_of_the_environment_is_read(self, written):
        text = (
            "import os\nMODEL_MAPPINGS = {'debugging': {'model': 'openai/gpt-6-luna', "
            "'max_tokens': int(os.getenv('LIMIT', '2048')), "
            "'temperature': float(os.getenv('HEAT', 0.5)), 'timeout': int(os.getenv('T', 'x'))}}\n"
        )
        plan = plan_of(written(text))
        route = routes(plan)["debugging:standard"]
        assert (route.max_tokens, route.temperature) == (2048, 0.5)
        assert any("timeout" in where for where in said(plan.unmapped))

    def test_the_default_of_a_key_is_listed_and_not_shown(self, written):
        text = (
            "import os\nMODEL_MAPPINGS = {'debugging': {'model': 'openai/gpt-6-luna', "
            "'api_key': os.getenv('ACME_API_KEY', 'hunter2-hunter2')}}\n"
        )
        plan = plan_of(written(text), environ={"ACME_API_KEY": "topsecret"})
        assert any("default of ACME_API_KEY" in text for text in said(plan.unmapped).values())
        assert "hunter2" not in repr(plan)
        assert "topsecret" not in repr(plan)

    @pytest.mark.parametrize(
        "grown", ["A = A + A", "A = [*A, *A]", "A = [A, A]", "A = list(A) + A"]
    )
    def test_a_list_that_doubles_with_every_line_is_refused(self, written, grown):
        text = "A = ['gpt-6-luna', 'gpt-6-luna']\n" + f"{grown}\n" * 60
        with pytest.raises(CannotRead, match="more values than a configuration"):
            plan_of(written(text + "MODEL_MAPPINGS = {'debugging': A}\n"))

    @pytest.mark.parametrize("grown", ["A = A + A", "B = {'x': B, 'y': B}"])
    def test_other_values_that_double_are_refused(self, written, grown):
        text = "A = 'gpt-6-luna'\nB = {'y': 'z'}\n" + f"{grown}\n" * 60
        with pytest.raises(CannotRead, match="more values than a configuration"):
            plan_of(written(text + "MODEL_MAPPINGS = {'debugging': A, 'x': B}\n"))

    def test_no_key_is_in_the_plan(self, plan):
        assert not any(secret in repr(plan) for secret in SECRETS)

    def test_the_file_never_runs(self, written, tmp_path):
        path = written(
            f"open({str(tmp_path / 'ran')!r}, 'w')\n"
            "__import__('os').system('true')\n"
            "MODEL_MAPPINGS = {'debugging': 'openai/gpt-6-luna', 'x': exec('1'), 'y': [1, 2][0]}\n"
        )
        plan = plan_of(path)
        assert list(routes(plan)) == ["debugging:standard"]
        assert len(plan.unmapped) == 2
        assert not (tmp_path / "ran").exists()

    def test_code_that_looks_an_entry_up_is_no_mapping(self, written):
        path = written(
            "class Router:\n"
            "    async def complete(self, use_case, tier):\n"
            "        mapping = MODEL_MAPPINGS[use_case][tier]\n"
            "        if tier is None:\n"
            "            mapping: Mapping = self.mappings.get(use_case, {}).get('standard')\n"
            "        mapping = await self._get_mapping(use_case)\n"
            "MODEL_MAPPINGS = {'debugging': 'openai/gpt-6-luna'}\n"
        )
        plan = plan_of(path)
        assert list(routes(plan)) == ["debugging:standard"]
        assert plan.unmapped == ()

    def test_a_mapping_that_a_function_computes_is_listed(self, written):
        path = written(
            "MODEL_MAPPINGS = {'debugging': 'openai/gpt-6-luna'}\n"
            "def more():\n"
            "    mappings = load_mappings()\n"
            "    self.mappings = ALL['production']\n"
        )
        assert len(plan_of(path).unmapped) == 2

    def test_enumerations_that_are_imported_are_resolved_by_name(self, written):
        plan = plan_of(
            written(
                "from core.llm_types import UseCase, ModelTier, ModelMapping\n"
                "class Router(Base):\n"
                "    DEFAULT_MAPPINGS = {UseCase.DEBUGGING: {ModelTier.PREMIUM.value:\n"
                "        ModelMapping('openai/gpt-6-astra', ModelTier.PREMIUM,\n"
                "        ['openai/gpt-6-luna'], use_case=UseCase.DEBUGGING, provider=None)}}\n"
            )
        )
        route = routes(plan)["debugging:premium"]
        assert models(route) == ["openai/gpt-6-astra", "openai/gpt-6-luna"]
        assert plan.unmapped == ()

    @pytest.mark.parametrize(
        "text",
        [
            "def load():\n    model_mappings = {'debugging': 'openai/gpt-6-luna'}\n",
            "class R:\n  def go(self):\n    self.MODEL_MAPPINGS = {'debugging': 'gpt-6-luna'}\n",
            "M = 'openai/gpt-6-luna'\nMODEL_MAP: dict = {**{'debugging': M}}\n",
            "M = 'gpt-6-luna'\nMAPPINGS = {}\nMAPPINGS['debugging'] = {}\n"  # noqa: ISC004
            "MAPPINGS['debugging']['standard'] = M\n",
            "MODEL_MAPPINGS = dict(debugging='openai/gpt-6-luna')\n",
            "MODEL_MAPPINGS = {}\nMODEL_MAPPINGS.update({'debugging': 'openai/' + 'gpt-6-luna'})\n",
            "MAPPINGS = {('debugging', 'standard'): ('openai/gpt-6-luna',)}\n",
            "MAPPINGS = [Rule(use_case='debugging', tier=T.STANDARD, model='openai/gpt-6-luna')]\n",
        ],
    )
    def test_where_and_how_mappings_are_written(self, written, text):
        plan = plan_of(written(text))
        assert models(routes(plan)["debugging:standard"]) == ["openai/gpt-6-luna"]
        assert plan.unmapped == ()

    @pytest.mark.parametrize(
        "more",
        [
            "MODEL_MAPPINGS |= extra\n",
            "if DEBUG:\n    MODEL_MAPPINGS = {'debugging': 'openai/gpt-6-astra'}\n",
            "MODEL_MAPPINGS.update(load())\n",
            "MODEL_MAPPINGS.pop('debugging')\n",
            "MODEL_MAPPINGS[name] = 'openai/gpt-6-astra'\n",
            "OTHER_MODEL_MAPPING = build()\nMODEL_MAPPING = build()\n",
        ],
    )
    def test_values_computed_at_run_time_are_reported(self, written, more):
        plan = plan_of(written("MODEL_MAPPINGS = {'debugging': 'openai/gpt-6-luna'}\n" + more))
        assert len(plan.unmapped) == 1
        assert models(routes(plan)["debugging:standard"]) == ["openai/gpt-6-luna"]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "x = (",
            "x = 1\n",
            "MODEL_MAPPINGS = {\x00}",
            "MODEL_MAPPINGS = " + "[" * 5000 + "]" * 5000,
            "MODEL_MAPPINGS = {'a': 'b'" + "+'b'" * 20_000 + "}",
            "A = [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{n} = [{', '.join([p] * 10)}]\n" for p, n in pairwise("ABCDEFG"))
            + "MODEL_MAPPINGS = {'debugging': G}\n",
        ],
        ids=["empty", "syntax", "none", "null", "nested", "chained", "bomb"],
    )
    def test_an_unreadable_file_is_rejected(self, written, text):
        with pytest.raises(CannotRead):
            plan_of(written(text))


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
