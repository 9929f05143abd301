"""The known vendors, one row each. The fields of `Quirks` are explained in `core.quirks`."""

from collections.abc import Mapping
from types import MappingProxyType

from llm_routing.core.quirks import ANY_MODEL, Quirks, StrictLimits, ToolIds, words
from llm_routing.formats.names import ANTHROPIC_MESSAGES

from .vendor import Auth, Vendor

# Fields of other vendors' requests and messages that OpenAI refuses.
_FOREIGN_FIELDS = words(
    "cache_control chat_template_kwargs guardrails include_reasoning min_p "
    "mm_processor_kwargs models plugins prompt_mode provider random_seed reasoning "
    "reasoning_format repetition_penalty route safe_prompt thinking top_a top_k "
    "transforms"
)
_FOREIGN_MESSAGE_FIELDS = words(
    "cache_control prefix reasoning reasoning_content reasoning_details thinking_blocks"
)
# Fields that OpenAI's reasoning models refuse: the reasoning guide, and `stop` in the API
# reference.
_REASONING_REFUSES = words(
    "temperature top_p presence_penalty frequency_penalty logprobs top_logprobs logit_bias stop"
)
# From GPT-5.4 on, Chat Completions accepts function tools only with the effort `none`:
# https://platform.openai.com/docs/guides/reasoning. Older models do not know that effort.
_SINCE_GPT_5_4 = r"(?!o\d|gpt-5(?:\.[0-3])?(?![.\d]))"
# o1, o3 and o4-mini refuse `parallel_tool_calls`, in all their sizes:
# https://platform.openai.com/docs/api-reference/chat/create
_O_SERIES = r"o\d"
_NAME = 64
# Reasoning fields that these vendors ignore; they read `reasoning_effort`.
_OTHER_THINKING = frozenset({"thinking", "reasoning"})
_FUNCTIONS = frozenset({"function"})


def _by_name(*vendors: Vendor) -> Mapping[str, Vendor]:
    return MappingProxyType({vendor.name: vendor for vendor in vendors})


VENDORS: Mapping[str, Vendor] = _by_name(
    # https://portkey.ai/docs/api-reference/inference-api/headers
    Vendor(
        name="portkey",
        title="Portkey",
        base_url="https://api.portkey.ai/v1",
        api_key_env="PORTKEY_API_KEY",
        auth=Auth.PORTKEY,
        setting_headers={"x-portkey-config": "portkey_config"},
        accepts_unlisted_models=True,
        quirks=Quirks(
            limit_field="max_completion_tokens",
            reasoning_models="@openai/",
            reasoning_refuses=_REASONING_REFUSES,
            tools_end_reasoning="@openai/" + _SINCE_GPT_5_4,
            refuses_parallel_tool_calls="@openai/" + _O_SERIES,
            knows_no_effort="@openai/" + _SINCE_GPT_5_4,
            marks_cache="@anthropic/",
        ),
    ),
    # https://openrouter.ai/docs/app-attribution; its model list is public, so the key is checked
    # at: https://openrouter.ai/docs/api/api-reference/api-keys/get-current-key
    Vendor(
        name="openrouter",
        title="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        api_key_env="OPENROUTER_API_KEY",
        setting_headers={"HTTP-Referer": "or_site_url", "X-Title": "or_app_name"},
        credential_path="/key",
        quirks=Quirks(
            refused_fields=frozenset({"thinking"}),
            marks_cache=ANY_MODEL,
            efforts=("minimal", "low", "medium", "high", "xhigh"),
            knows_no_effort=ANY_MODEL,
            reports_cost=True,
        ),
    ),
    # https://platform.openai.com/docs/api-reference/chat/create
    Vendor(
        name="openai",
        title="OpenAI",
        base_url="https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        quirks=Quirks(
            refused_fields=_FOREIGN_FIELDS,
            refused_message_fields=_FOREIGN_MESSAGE_FIELDS,
            limit_field="max_completion_tokens",
            max_stops=4,
            reasoning_models=ANY_MODEL,
            reasoning_refuses=_REASONING_REFUSES,
            tools_end_reasoning="^" + _SINCE_GPT_5_4,
            refuses_parallel_tool_calls="^" + _O_SERIES,
            efforts=("minimal", "low", "medium", "high", "xhigh"),
            knows_no_effort="^" + _SINCE_GPT_5_4,
            tool_ids=ToolIds(40),
            max_tool_name_length=_NAME,
        ),
    ),
    # https://platform.claude.com/docs/en/api/versioning
    Vendor(
        name="anthropic",
        title="Anthropic",
        base_url="https://api.anthropic.com",
        api_key_env="ANTHROPIC_API_KEY",
        format=ANTHROPIC_MESSAGES,
        auth=Auth.X_API_KEY,
        headers={"anthropic-version": "2023-06-01"},
        models_path="/v1/models",
        # https://platform.claude.com/docs/en/build-with-claude/structured-outputs
        quirks=Quirks(
            marks_cache=ANY_MODEL,
            max_tool_name_length=128,
            strict_limits=StrictLimits(tools=20, optional_parameters=24, union_parameters=16),
            holds_threads=True,
        ),
    ),
    # https://ai.google.dev/gemini-api/docs/openai: unknown fields are refused;
    # https://ai.google.dev/gemini-api/docs/thought-signatures
    Vendor(
        name="google",
        title="Google Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        api_key_env="GEMINI_API_KEY",
        api_key_env_fallbacks=("GOOGLE_API_KEY",),
        quirks=Quirks(
            part_types=words("text image_url input_audio"),
            fields=words(
                "model messages max_tokens max_completion_tokens n stop stream stream_options "
                "temperature top_p tools tool_choice response_format reasoning_effort seed "
                "modalities extra_body"
            ),
            message_fields=words("role content name tool_calls tool_call_id extra_content"),
            embedding_fields=words("model input dimensions encoding_format"),
            max_stops=5,
            efforts=("minimal", "low", "medium", "high"),
            thought_signatures=True,
            tool_types=_FUNCTIONS,
            developer_role=False,
            max_tool_name_length=_NAME,
        ),
    ),
    # https://docs.mistral.ai/api: unknown fields are refused; streams always end with the usage.
    Vendor(
        name="mistral",
        title="Mistral AI",
        base_url="https://api.mistral.ai/v1",
        api_key_env="MISTRAL_API_KEY",
        quirks=Quirks(
            part_types=words("text image_url document_url reference file thinking input_audio"),
            document_url=True,
            fields=words(
                "model messages temperature top_p max_tokens stream stop random_seed "
                "response_format tools tool_choice presence_penalty frequency_penalty n "
                "prediction parallel_tool_calls prompt_mode reasoning_effort safe_prompt "
                "metadata guardrails"
            ),
            message_fields=words("role content tool_calls tool_call_id prefix"),
            field_names=(("seed", "random_seed"),),
            embedding_fields=words(
                "model input encoding_format output_dimension output_dtype metadata"
            ),
            embedding_names=(("dimensions", "output_dimension"),),
            max_temperature=1.5,
            efforts=("high",),
            knows_no_effort=ANY_MODEL,
            tool_types=_FUNCTIONS,
            developer_role=False,
            system_first=True,
            assistant_after_tools=True,
            empty_assistant=False,
            prefix_message=True,
            tool_ids=ToolIds(9, others="", is_exact=True),
            max_tool_name_length=_NAME,
            stream_usage=False,
        ),
    ),
    # https://console.groq.com/docs/api-reference: max_tokens is deprecated there, unknown fields
    # are refused, and few models take a JSON Schema.
    Vendor(
        name="groq",
        title="Groq",
        base_url="https://api.groq.com/openai/v1",
        api_key_env="GROQ_API_KEY",
        quirks=Quirks(
            part_types=words("text image_url document"),
            fields=words(
                "model messages temperature top_p max_completion_tokens stream stream_options "
                "stop seed response_format tools tool_choice parallel_tool_calls user n "
                "presence_penalty frequency_penalty reasoning_effort reasoning_format "
                "include_reasoning service_tier disable_tool_validation documents "
                "citation_options compound_custom search_settings exclude_domains "
                "include_domains"
            ),
            message_fields=words("role content tool_calls tool_call_id"),
            field_values=(
                ("service_tier", frozenset({"auto", "on_demand", "flex", "performance"})),
            ),
            limit_field="max_completion_tokens",
            max_stops=4,
            tool_types=_FUNCTIONS | {"browser_search", "code_interpreter", "mcp"},
            developer_role=False,
            max_tool_name_length=_NAME,
            one_answer=True,
            json_schema=False,
        ),
    ),
    # https://api-docs.deepseek.com/guides/thinking_mode and /guides/json_mode
    Vendor(
        name="deepseek",
        title="DeepSeek",
        base_url="https://api.deepseek.com/v1",
        api_key_env="DEEPSEEK_API_KEY",
        quirks=Quirks(
            part_types=words("text image_url"),
            refused_fields=frozenset({"reasoning"}),
            one_answer=True,
            max_stops=16,
            thinking_switch=True,
            thinking_field="reasoning_content",
            tool_types=_FUNCTIONS,
            developer_role=False,
            max_tool_name_length=_NAME,
            json_schema=False,
        ),
    ),
    # https://docs.together.ai/docs/inference/openai-compatibility
    Vendor(
        name="together",
        title="Together AI",
        base_url="https://api.together.ai/v1",
        api_key_env="TOGETHER_API_KEY",
        quirks=Quirks(
            part_types=words("text image_url video_url audio_url input_audio"),
            refused_fields=_OTHER_THINKING,
            efforts=("low", "medium", "high"),
            developer_role=False,
            system_first=True,
            tool_types=_FUNCTIONS,
        ),
    ),
    # https://docs.ollama.com/api/openai-compatibility
    Vendor(
        name="ollama",
        title="Ollama",
        base_url="http://127.0.0.1:11434/v1",
        api_key_env="OLLAMA_API_KEY",
        auth=Auth.OPTIONAL_BEARER,
        is_local=True,
        # Fields that it ignores are left out, so that they are named.
        quirks=Quirks(
            part_types=words("text image_url"),
            refused_fields=_OTHER_THINKING | words("logit_bias user tool_choice"),
            one_answer=True,
            efforts=("low", "medium", "high"),
            knows_no_effort=ANY_MODEL,
            developer_role=False,
            system_first=True,
            tool_types=_FUNCTIONS,
        ),
    ),
    # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html: the model's chat
    # template decides about roles and their order. Few know `developer`, and some accept a system
    # message only as the first message.
    Vendor(
        name="vllm",
        title="vLLM, or another OpenAI-compatible server of your own",
        base_url="http://127.0.0.1:8000/v1",
        api_key_env="VLLM_API_KEY",
        auth=Auth.OPTIONAL_BEARER,
        accepts_unlisted_models=True,
        is_local=True,
        quirks=Quirks(
            part_types=words(
                "text refusal image_url image_embeds audio_url input_audio audio_embeds video_url "
                "thinking input_text input_image"
            ),
            refused_fields=_OTHER_THINKING,
            efforts=("low", "medium", "high"),
            developer_role=False,
            system_first=True,
            tool_types=_FUNCTIONS,
            continue_final_message=True,
        ),
    ),
    # `manage.py llm_sandbox`
    Vendor(
        name="sandbox",
        title="Sandbox",
        base_url="http://127.0.0.1:8099/v1",
        api_key_env="LLM_SANDBOX_API_KEY",
        auth=Auth.OPTIONAL_BEARER,
        accepts_unlisted_models=True,
        is_local=True,
        is_sandbox=True,
        quirks=Quirks(marks_cache=ANY_MODEL),
    ),
)
