"""Files and format-specific blocks between the formats: as the equivalent block, or as text if
there is none."""

import base64
import json
from typing import Any

import pytest

from llm_routing.core.content import FilePart, ForeignPart, Message, Role, TextPart
from llm_routing.core.errors import InvalidRequest, UnsupportedRequest
from llm_routing.core.planner import required_capabilities
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.types import LLMRequest
from llm_routing.formats.content_urls import check_content_urls
from llm_routing.formats.prompt_length import PAGE, prompt_length
from llm_routing.formats.registry import FORMATS

OPENAI, ANTHROPIC = "openai_chat", "anthropic_messages"
PDF = {"type": "base64", "media_type": "application/pdf", "data": "QUFB"}
DOCUMENT = {"type": "document", "source": PDF}
FILE = {
    "type": "file",
    "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,QUFB"},
}


def parsed(caller: str, messages: list[Any], **more: Any) -> LLMRequest:
    return FORMATS[caller].read_request(
        {"model": "m", "max_tokens": 9, "messages": messages} | more
    )


def asked(caller: str, vendor: str, messages: list[Any], **more: Any) -> Any:
    """Returns the messages that the vendor receives."""
    target = Target(ProviderSpec("p", "v", vendor, "https://x"), ModelSpec("p", "m"))
    request = parsed(caller, messages, **more)
    return json.loads(FORMATS[vendor].write_request(request, target).body)["messages"]


def user(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": list(parts)}]


def result(*blocks: Any) -> list[Any]:
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    given = {"type": "tool_result", "tool_use_id": "toolu_1", "content": list(blocks)}
    return [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [given]},
    ]


def test_a_pdf_is_converted_in_both_directions() -> None:
    assert asked(ANTHROPIC, OPENAI, user(DOCUMENT))[0]["content"] == [FILE]
    block = {"type": "document", "source": PDF, "title": "document.pdf"}
    assert asked(OPENAI, ANTHROPIC, user(FILE))[0]["content"] == [block]
    named = {**DOCUMENT, "title": "a.pdf"}
    (sent,) = asked(ANTHROPIC, OPENAI, user(named))[0]["content"]
    assert sent["file"]["filename"] == "a.pdf"


def test_a_pdf_given_as_an_image_is_a_document() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:application/pdf;base64,QUFB"}}
    assert asked(OPENAI, ANTHROPIC, user(image))[0]["content"] == [DOCUMENT]


def test_a_pdf_keeps_its_cache_mark() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    (block,) = asked(OPENAI, ANTHROPIC, user({**FILE, **mark}))[0]["content"]
    assert block["cache_control"] == mark["cache_control"]
    (part,) = parsed(ANTHROPIC, user({**DOCUMENT, **mark})).messages[0].content
    assert part == FilePart(data="QUFB", cache_control=mark["cache_control"])


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Words"},
            },
            "Words",
        ),
        (
            {
                "type": "document",
                "title": "T",
                "context": "C",
                "source": {"type": "text", "media_type": "text/plain", "data": "Words"},
            },
            "T\nC\nWords",
        ),
        ({"type": "document", "source": {"type": "content", "content": "Words"}}, "Words"),
        (
            {
                "type": "document",
                "source": {"type": "content", "content": [{"type": "text", "text": "Words"}]},
            },
            "Words",
        ),
        (
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "text/plain", "data": "V29yZHM="},
            },
            "Words",
        ),
        (
            {
                "type": "search_result",
                "source": "https://x/y",
                "title": "T",
                "content": [{"type": "text", "text": "Words"}],
            },
            "T\nhttps://x/y\nWords",
        ),
        ({"type": "tool_reference", "tool_name": "f"}, "The tool f is available."),
    ],
)
def test_textual_blocks_become_text(block: Any, text: str) -> None:
    assert asked(ANTHROPIC, OPENAI, user(block))[0]["content"] in (
        text,
        [{"type": "text", "text": text}],
    )
    *_, tool = asked(ANTHROPIC, OPENAI, result(block))
    assert tool == {"role": "tool", "tool_call_id": tool["tool_call_id"], "content": text}


def test_a_pdf_in_a_tool_result_follows_in_a_user_message() -> None:
    *_, tool, after = asked(ANTHROPIC, OPENAI, result({"type": "text", "text": "See"}, DOCUMENT))
    assert (tool["role"], tool["content"]) == ("tool", "See")
    assert after == {"role": "user", "content": [FILE]}


def test_an_openai_file_in_a_tool_result_stays_in_it() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": [FILE]},
    ]
    *_, turn = asked(OPENAI, ANTHROPIC, messages)
    (given,) = turn["content"]
    assert given["content"] == [{**DOCUMENT, "title": "document.pdf"}]


def test_results_of_server_tools_become_text() -> None:
    page = {"type": "web_search_result", "title": "T", "url": "https://x", "encrypted_content": "e"}
    said = [
        {"type": "text", "text": "Looking."},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [page]},
        {"type": "code_execution_tool_result", "tool_use_id": "s", "content": {"stdout": "4"}},
        {"type": "bash_code_execution_tool_result", "tool_use_id": "s", "content": "gone"},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
    ]
    sent = asked(
        ANTHROPIC,
        OPENAI,
        [*user({"type": "text", "text": "Hi"}), {"role": "assistant", "content": said}],
    )
    assert sent[1]["content"] == (
        "Looking.[Used the tool web_search.]T\nhttps://x4gone[The tool returned nothing.]"
    )


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": {"type": "file", "file_id": "f"}},
        {"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "image"}]}},
        {"type": "document", "source": {"type": "content", "content": 5}},
        {"type": "document", "source": {"type": "base64", "media_type": "text/x", "data": "/w=="}},
        {"type": "document"},
        {"type": "search_result", "content": 5},
        {"type": "container_upload", "file_id": "f"},
    ],
)
def test_blocks_without_a_text_form_fail_over(block: Any) -> None:
    with pytest.raises(UnsupportedRequest):
        asked(ANTHROPIC, OPENAI, user(block))


def test_openai_files_that_anthropic_does_not_support_fail_over() -> None:
    by_id = {"type": "file", "file": {"file_id": "file-1"}}
    sheet = {"type": "file", "file": {"file_data": "data:application/zip;base64,QUFB"}}
    for part in (by_id, sheet):
        with pytest.raises(UnsupportedRequest):
            asked(OPENAI, ANTHROPIC, user(part))
    bare = {"type": "file", "file": {"file_data": "QUFB"}}
    assert asked(OPENAI, ANTHROPIC, user(bare))[0]["content"] == [DOCUMENT]
    picture = {"type": "file", "file": {"file_data": "data:image/png;base64,QUFB"}}
    assert asked(OPENAI, ANTHROPIC, user(picture))[0]["content"][0]["type"] == "image"
    data = base64.b64encode(b"Words").decode()
    plain = {
        "type": "file",
        "file": {"filename": "a.txt", "file_data": f"data:text/plain;base64,{data}"},
    }
    (text,) = asked(OPENAI, ANTHROPIC, user(plain))[0]["content"]
    assert text == {"type": "text", "text": "a.txt\n\nWords"}


@pytest.mark.parametrize(
    "data", ["data:application/pdf,QUFB", "data:;base64,QUFB", "data:text/plain;base64,/w=="]
)
def test_invalid_file_data_is_rejected(data: str) -> None:
    with pytest.raises(InvalidRequest):
        parsed(OPENAI, user({"type": "file", "file": {"file_data": data}}))


def test_the_url_of_a_file_is_checked() -> None:
    file = FilePart(url="http://169.254.169.254/a.pdf")
    with pytest.raises(InvalidRequest):
        check_content_urls(LLMRequest((Message(Role.USER, (file,)),)))
    target = Target(ProviderSpec("p", "v", ANTHROPIC, "https://x"), ModelSpec("p", "m"))
    request = LLMRequest((Message(Role.USER, (FilePart(url="https://x/a.pdf"),)),))
    body = json.loads(FORMATS[ANTHROPIC].write_request(request, target).body)
    source = {"type": "url", "url": "https://x/a.pdf"}
    assert body["messages"][0]["content"] == [{"type": "document", "source": source}]


def test_a_file_is_measured_by_its_pages_and_requires_vision() -> None:
    request = parsed(ANTHROPIC, user(DOCUMENT))
    assert prompt_length(request) == PAGE
    assert required_capabilities(request) == {"vision"}


def test_fallback_text_is_used_only_for_other_formats() -> None:
    reference = {"type": "tool_reference", "tool_name": "f"}
    (part,) = parsed(ANTHROPIC, user(reference)).messages[0].content
    assert part == ForeignPart(ANTHROPIC, reference, "The tool f is available.")


def test_non_text_system_blocks_are_relayed_between_equal_formats() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    messages = [*user({"type": "text", "text": "Hi"}), {"role": "system", "content": [image]}]
    assert asked(ANTHROPIC, ANTHROPIC, messages)[1]["content"] == [image]
    with pytest.raises(UnsupportedRequest):
        asked(ANTHROPIC, OPENAI, messages)
    with pytest.raises(UnsupportedRequest):
        asked(ANTHROPIC, OPENAI, user({"type": "text", "text": "Hi"}), system=[image])


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_request_with_only_instructions_sends_them_as_a_user_message(role: str) -> None:
    sent = asked(OPENAI, ANTHROPIC, [{"role": role, "content": "Say hi"}])
    assert sent == user({"type": "text", "text": "Say hi"})


OLD = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
    {"role": "function", "name": "f", "content": "4"},
]


def test_deprecated_functions_are_relayed_to_openais_format_and_fail_over_elsewhere() -> None:
    assert asked(OPENAI, OPENAI, OLD, functions=[{"name": "f"}], function_call="auto") == OLD
    for messages, more in (
        (OLD, {}),
        (OLD[:1], {"functions": [{"name": "f"}]}),
        ([OLD[0], OLD[2]], {}),
    ):
        with pytest.raises(UnsupportedRequest):
            asked(OPENAI, ANTHROPIC, messages, **more)


def test_text_parts_are_unchanged() -> None:
    assert parsed(OPENAI, user({"type": "text", "text": "Hi"})).messages[0].content == (
        TextPart("Hi"),
    )


def test_a_text_document_without_its_text_is_an_invalid_request() -> None:
    block = {"type": "document", "source": {"type": "text", "media_type": "text/plain"}}
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [block]}]}

    with pytest.raises(InvalidRequest) as caught:
        FORMATS[ANTHROPIC].read_request(body)

    assert caught.value.field == "messages.0.content.0.source.data"
