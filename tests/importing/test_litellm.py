"""LiteLLM's config.yaml: groups, fallbacks, and everything else by name."""

from decimal import Decimal

import pytest

from .conftest import SAMPLES, SECRETS, plan_of, said


@pytest.fixture(scope="module")
def plan():
    return plan_of(SAMPLES / "config.yaml")


def model(plan, key):
    return next(model for model in plan.models if model.key == key)


def targets(plan, use_case):
    route = next(route for route in plan.routes if route.use_case == use_case)
    assert route.tier == "standard"
    return [(target.model, target.position, target.weight) for target in route.targets]


def yaml_of(models, **sections):
    import yaml

    entries = [
        {
            "model_name": name,
            "litellm_params": params if isinstance(params, dict) else {"model": params},
        }
        for name, params in models
    ]
    return yaml.safe_dump({"model_list": entries, **sections})


def config(written, models, **sections):
    return plan_of(written(yaml_of(models, **sections), "config.yaml"))


def test_a_group_of_one_becomes_an_alias(written):
    plan = config(written, [("best", "openai/gpt-6-astra")])
    assert model(plan, "openai/gpt-6-astra").alias == "best"
    assert plan.routes == ()


def test_a_group_with_fallbacks_becomes_a_use_case(plan):
    assert targets(plan, "support") == [
        ("anthropic/claude-sonnet-5-5", 0, 6),
        ("openai-helpdesk/gpt-6.1-sol", 0, 2),
        ("vllm-127-0-0-1-8001/acme/helper-8b", 1, 1),
        ("openai/gpt-6-astra", 2, 1),
    ]
    (route,) = (route for route in plan.routes if route.use_case == "support")
    assert route.temperature == 0.3


def test_fallbacks_for_long_prompts_come_last(plan):
    assert [key for key, _, _ in targets(plan, "gpt-6-astra")] == [
        "openai/gpt-6-astra",
        "anthropic/claude-sonnet-5-5",
        "openai-helpdesk/gpt-6.1-sol",
        "vllm-127-0-0-1-8001/acme/helper-8b",
    ]
    assert "context_window_fallbacks of gpt-6-astra" in said(plan.notes)


@pytest.mark.parametrize("name", ["gpt-3.5-turbo", "team/fast", "Gemini 2.5 Flash", "llama3:8b"])
def test_callers_go_on_using_the_name_of_a_group(written, name):
    alone = config(written, [(name, "openai/gpt-6-luna")])
    assert model(alone, "openai/gpt-6-luna").alias == name
    assert alone.routes == alone.notes == ()
    group = config(
        written,
        [(name, "openai/gpt-6-luna"), ("b", "anthropic/claude-haiku-5-5")],
        litellm_settings={"fallbacks": [{name: ["b"]}]},
    )
    assert [key for key, _, _ in targets(group, name)] == [
        "openai/gpt-6-luna", "anthropic/claude-haiku-5-5",
    ]  # fmt: skip
    assert group.notes == ()


@pytest.mark.parametrize("name", ["chat:premium", "x" * 65, "two\nlines"])
def test_a_name_that_no_use_case_can_have_is_changed_with_a_note(written, name):
    models = [(name, "openai/gpt-6-luna"), (name, "anthropic/claude-haiku-5-5")]
    plan = config(written, models)
    (route,) = plan.routes
    assert route.use_case in ("chat-premium", "x" * 64, "two lines")
    assert any(route.use_case in note.text for note in plan.notes)


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({"model": "openai/openai/gpt-5.4-mini", "api_base": "https://openrouter.ai/api/v1"},
         "openai/gpt-5.4-mini"),
        ({"model": "openai/openai/gpt-oss-20b", "api_base": "https://llm.example.com/v1"},
         "openai/gpt-oss-20b"),
        ({"model": "openai/gpt-6-luna"}, "gpt-6-luna"),
        ({"model": "openai/gpt-6-luna", "custom_llm_provider": "openai"}, "gpt-6-luna"),
        ({"model": "openrouter/auto", "custom_llm_provider": "openrouter"}, "openrouter/auto"),
    ],
)  # fmt: skip
def test_the_vendor_is_sent_the_same_name_as_before(written, params, sent):
    (found,) = config(written, [("g", params)]).models
    assert found.model_id == sent


def test_every_cost_of_a_token_becomes_a_price(written):
    params = {
        "model": "openai/gpt-6-luna",
        "input_cost_per_token": "3e-06",
        "output_cost_per_token": 0.000015,
        "cache_read_input_token_cost": 3e-7,
    }
    plan = config(written, [("g", params)])
    (found,) = plan.models
    assert (found.input_price, found.output_price) == (Decimal(3), Decimal(15))
    assert found.cached_input_price == Decimal("0.3")
    assert plan.unmapped == ()


@pytest.mark.parametrize("section", ["litellm_settings", "router_settings", "general_settings"])
def test_a_file_with_only_settings_is_read_as_litellms(written, section):
    plan = plan_of(written(f"{section}: {{num_retries: 3}}\n", "c.yaml"))
    assert plan.source == "LiteLLM configuration"
    assert list(said(plan.unmapped)) == [f"{section}.num_retries"]


def test_another_name_of_a_group_has_its_fallbacks(written):
    plan = config(
        written,
        [("solo", "openai/gpt-6-luna"), ("b", "anthropic/claude-haiku-5-5")],
        litellm_settings={"fallbacks": [{"solo": ["b"]}]},
        router_settings={"model_group_alias": {"al two": "solo"}},
    )
    assert targets(plan, "al two") == targets(plan, "solo")
    assert len(targets(plan, "solo")) == 2


def test_aliases_of_groups(plan):
    assert targets(plan, "chat")[:2] == targets(plan, "support")[:2]
    assert targets(plan, "main") == targets(plan, "gpt-6-astra")


def test_providers_are_distinguished_by_address_and_key(plan):
    rows = {row.name: (row.vendor, row.base_url, row.api_key_env) for row in plan.providers}
    assert rows == {
        "openai": ("openai", "", ""),
        "anthropic": ("anthropic", "", ""),
        "openai-helpdesk": ("openai", "", "OPENAI_API_KEY_HELPDESK"),
        "vllm-127-0-0-1-8001": ("vllm", "http://127.0.0.1:8001/v1", ""),
        "groq": ("groq", "", ""),
    }


def test_facts_of_a_model_are_imported(plan):
    assert model(plan, "groq/openai/gpt-oss-20b").input_price == Decimal("0.1")
    assert model(plan, "groq/openai/gpt-oss-20b").output_price == Decimal("0.5")
    assert model(plan, "openai/text-embedding-3-small").capabilities == {"embeddings"}
    assert "vision" in (model(plan, "anthropic/claude-sonnet-5-5").capabilities or ())


@pytest.mark.parametrize(
    "where",
    [
        "model_list[1].model_info.team",
        "model_list[4].litellm_params.api_key",
        "model_list[6]",
        "model_list[7]",
        "fallbacks of support",
        "router_settings.routing_strategy",
        "router_settings.num_retries",
        "router_settings.redis_password",
        "litellm_settings.drop_params",
        "litellm_settings.success_callback",
        "litellm_settings.cache",
        "litellm_settings.content_policy_fallbacks",
        "litellm_settings.request_timeout",
        "general_settings.master_key",
        "general_settings.database_url",
        "general_settings.default_team_disabled",
        "environment_variables.LANGFUSE_SECRET_KEY",
        "guardrails",
    ],
)
def test_everything_that_has_no_place_is_listed(plan, where):
    assert said(plan.unmapped)[where]


def test_no_secret_is_in_the_plan(plan):
    text = repr(plan)
    assert not any(secret in text for secret in SECRETS)


def test_nothing_is_listed_of_a_file_that_fits(written):
    plan = config(
        written,
        [("fast", {"model": "openai/gpt-6-luna", "api_key": "os.environ/OPENAI_API_KEY"})],
        router_settings={"routing_strategy": "simple-shuffle", "model_group_alias": {}},
        litellm_settings={},
    )
    assert plan.unmapped == plan.notes == ()


@pytest.mark.parametrize(
    ("shares", "weights"),
    [
        ([{"weight": 3}, {"weight": 1}], [3, 1]),
        ([{"weight": 0.9}, {"weight": 0.1}], [9, 1]),
        ([{"rpm": 900}, {"rpm": 300}], [3, 1]),
        ([{"weight": 5}, {}], [1, 1]),
        ([{"tpm": 10**9}, {"tpm": 1}], [1000, 1]),
        ([{"weight": 0}, {"weight": 2}], [1, 1]),
    ],
)
def test_shares_of_the_load(written, shares, weights):
    names = ["openai/gpt-6-luna", "anthropic/claude-haiku-5-5"]
    plan = config(written, [("g", {"model": n, **s}) for n, s in zip(names, shares, strict=True)])
    assert [weight for _, _, weight in targets(plan, "g")] == weights


def test_values_that_differ_within_a_group_are_listed(written):
    plan = config(
        written,
        [
            ("g", {"model": "openai/gpt-6-luna", "temperature": 0}),
            ("g", {"model": "claude-haiku-5-5", "temperature": 1}),
        ],
    )
    assert plan.routes[0].temperature is None
    assert "model_name g.temperature" in said(plan.unmapped)


def test_default_fallbacks_follow_every_group(written):
    plan = config(
        written,
        [("a", "openai/gpt-6-luna"), ("b", "anthropic/claude-haiku-5-5")],
        litellm_settings={"default_fallbacks": ["b"]},
    )
    assert [key for key, _, _ in targets(plan, "a")] == [
        "openai/gpt-6-luna", "anthropic/claude-haiku-5-5",
    ]  # fmt: skip
    assert model(plan, "anthropic/claude-haiku-5-5").alias == "b"


def test_a_built_in_use_case_stays_one(written):
    plan = config(written, [("debugging", "openai/gpt-6-luna")])
    assert targets(plan, "debugging") == [("openai/gpt-6-luna", 0, 1)]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"model": "openai/x", "api_base": "https://api.openai.com/v1"}, ("openai", "")),
        ({"model": "openai/x", "api_base": "https://llm.example.com/v1/"},
         ("vllm", "https://llm.example.com/v1")),
        ({"model": "openai/x", "api_base": "https://openrouter.ai/api/v1"}, ("openrouter", "")),
        ({"model": "ollama_chat/x", "api_base": "http://127.0.0.1:11434"}, ("ollama", "")),
        ({"model": "ollama/x", "api_base": "http://gpu.example.com:11434"},
         ("ollama", "http://gpu.example.com:11434/v1")),
        ({"model": "anthropic/x", "api_base": "https://api.anthropic.com/v1"}, ("anthropic", "")),
        ({"model": "x", "custom_llm_provider": "mistral"}, ("mistral", "")),
    ],
)  # fmt: skip
def test_addresses(written, params, expected):
    (row,) = config(written, [("g", params)]).providers
    assert (row.vendor, row.base_url) == expected


def test_an_address_in_the_environment(written):
    entry = [("g", {"model": "ollama/x", "api_base": "os.environ/OLLAMA_HOST"})]
    assert config(written, entry).providers == ()
    (row,) = plan_of(
        written(
            "model_list: [{model_name: g, litellm_params: "
            "{model: ollama/x, api_base: os.environ/OLLAMA_HOST}}]",
            "c.yaml",
        ),
        environ={"OLLAMA_HOST": "http://10.0.0.7:11434"},
    ).providers
    assert row.base_url == "http://10.0.0.7:11434/v1"


def test_names_lose_the_blanks_at_their_ends(written):
    fast = {"model": " openai/gpt-6-luna ", "api_key": "os.environ/OPENAI_API_KEY "}
    plan = config(written, [(" fast ", fast)])
    assert [row.key for row in plan.models] == ["openai/gpt-6-luna"]
    assert targets(plan, "fast") == [("openai/gpt-6-luna", 0, 1)]
    assert said(plan.notes)["model_name  fast "] == "callers send fast"
    assert plan.unmapped == ()


NEEDS_NO_KEY = [
    {"model": "ollama/llama3", "api_base": "http://127.0.0.1:11434"},
    {"model": "hosted_vllm/acme", "api_base": "http://127.0.0.1:8001/v1"},
    {"model": "openai/acme", "api_base": "http://127.0.0.1:8001/v1"},
]


@pytest.mark.parametrize("params", NEEDS_NO_KEY, ids=lambda params: params["model"])
@pytest.mark.parametrize("variable", ["OLLAMA_TOKEN", "LOCAL_KEY"])
def test_a_vendor_that_needs_no_key_loses_nothing_with_a_variable_that_is_not_set(
    written, params, variable
):
    params = params | {"api_key": f"os.environ/{variable}"}
    path = written(yaml_of([("local", params)]), "config.yaml")
    plan = plan_of(path)
    assert plan.unmapped == ()
    (provider,) = plan.providers
    assert provider.api_key_env == ""
    # A key that is there would be lost, because a server of one's own may demand it.
    plan = plan_of(path, environ={variable: "sk-0123456789"})
    assert "API_KEY in its name" in said(plan.unmapped)["model_list[0].litellm_params.api_key"]
    assert plan_of(path, environ={variable: "dummy"}).unmapped == ()


@pytest.mark.parametrize("variable", ["OPENAI_KEY", "DATABASE_URL", "BAD-API_KEY"])
def test_a_variable_that_no_provider_may_name_is_listed(written, variable):
    plan = config(written, [("g", {"model": "openai/x", "api_key": f"os.environ/{variable}"})])
    assert [row.api_key_env for row in plan.providers] == [""]
    assert "API_KEY in its name" in said(plan.unmapped)["model_list[0].litellm_params.api_key"]


def test_a_vendors_key_is_not_sent_elsewhere(written):
    params = {
        "model": "openai/x",
        "api_base": "https://llm.example.com/v1",
        "api_key": "os.environ/OPENAI_API_KEY",
    }
    plan = config(written, [("g", params)])
    assert plan.providers[0].api_key_env == ""
    assert "would be sent to it" in said(plan.unmapped)["model_list[0].litellm_params.api_key"]


@pytest.mark.parametrize(
    "entry",
    [
        "[{model_name: a}]",
        "[3]",
        "[{model_name: '', litellm_params: {model: gpt-6-luna}}]",
        "[{model_name: sk-abcdefgh12345678, litellm_params: {model: gpt-6-luna}}]",
        "[{model_name: a, litellm_params: {model: ''}}]",
        "[{model_name: a, litellm_params: {model: sk-abcdefgh12345678}}]",
        "{}",
    ],
)
def test_an_invalid_entry_is_reported(written, entry):
    plan = plan_of(written(f"model_list: {entry}\nguardrails: [x]\n", "c.yaml"))
    assert not plan.models
    assert not plan.routes
    assert plan.unmapped
    assert "abcdefgh12345678" not in repr(plan)
