"""Mappings in Python files of hard-coded routers, which are read and never run."""

from itertools import pairwise

import pytest

from llm_routing.importing.text import CannotRead

from .conftest import SAMPLES, SECRETS, plan_of, said
from .planned import models, routes


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
