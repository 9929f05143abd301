"""Every URL in a request that a provider would fetch is checked."""

from typing import Any

import pytest

from llm_routing.core.content import (
    FilePart,
    ForeignPart,
    ImagePart,
    Message,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from llm_routing.core.errors import InvalidRequest
from llm_routing.core.types import LLMRequest
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.content_urls import check_content_urls
from llm_routing.formats.openai_chat.wire_format import OpenAIChat

BAD, GOOD = "http://127.0.0.1:9000/a", "https://example.com/a"


def openai(part: Any) -> LLMRequest:
    messages = [{"role": "user", "content": [{"type": "text", "text": "See:"}, part]}]
    return OpenAIChat().read_request({"model": "m", "messages": messages})


def anthropic(block: Any) -> LLMRequest:
    messages = [{"role": "user", "content": [block]}]
    return AnthropicMessages().read_request({"model": "m", "max_tokens": 9, "messages": messages})


def requests_of(url: str) -> list[LLMRequest]:
    source = {"type": "url", "url": url}
    image = {"type": "image", "source": source}
    document = {"type": "document", "source": source}
    part = ImagePart(url=url)
    return [
        openai({"type": "image_url", "image_url": {"url": url}}),
        openai({"type": "video_url", "video_url": {"url": url}}),
        openai({"type": "input_file", "file_url": url}),
        openai({"type": "odd", "a": [{"b": {"url": url, "n": 3}}]}),
        anthropic(image),
        anthropic(document),
        anthropic({"type": "tool_result", "tool_use_id": "t", "content": [image]}),
        anthropic({"type": "tool_result", "tool_use_id": "t", "content": [document]}),
        LLMRequest((Message(Role.USER, (part,)),)),
        LLMRequest((Message(Role.USER, (FilePart(url=url),)),)),
        LLMRequest((Message(Role.TOOL, (ToolResultPart("t", (TextPart("a"), part)),)),)),
        LLMRequest((Message(Role.USER, (ForeignPart("x", {"source": source}),)),)),
    ]


@pytest.mark.parametrize("number", range(len(requests_of(GOOD))))
def test_a_private_address_is_rejected_in_every_place(number: int) -> None:
    check_content_urls(requests_of(GOOD)[number])
    with pytest.raises(InvalidRequest, match="does not point to a public address") as caught:
        check_content_urls(requests_of(BAD)[number])
    assert caught.value.field == "messages"


def test_urls_that_are_not_fetched_are_allowed() -> None:
    call = {"type": "tool_use", "id": "t", "name": "open", "input": {"url": BAD}}
    messages = [
        {"role": "user", "content": "See http://localhost"},
        {"role": "assistant", "content": [{"type": "text", "text": BAD}, call]},
    ]
    body = {"model": "m", "max_tokens": 9, "messages": messages}
    check_content_urls(AnthropicMessages().read_request(body))
    check_content_urls(LLMRequest((Message(Role.USER, (ImagePart(data="A", media_type="i/j"),)),)))
    check_content_urls(LLMRequest((Message(Role.USER, (TextPart(BAD),)),)))
    own = ToolCallPart("t", "open", '{"url": "http://localhost"}')
    check_content_urls(LLMRequest((Message(Role.ASSISTANT, (own,)),)))


def test_a_long_url_is_shortened_in_the_error() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_content_urls(requests_of("https://example.com/" + "a" * 9000)[0])
    assert len(caught.value.message) < 200
