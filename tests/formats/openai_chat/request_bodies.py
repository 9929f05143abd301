"""Reads small request bodies, for the tests of `read_request`."""

import copy
from typing import Any

import pytest

from llm_routing.core.errors import InvalidRequest
from llm_routing.core.types import LLMRequest
from llm_routing.formats.openai_chat.wire_format import OpenAIChat


def parse(**fields: Any) -> LLMRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    before = copy.deepcopy(body)
    request = OpenAIChat().read_request(body)
    assert body == before
    return request


def refused_field(**fields: Any) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    return caught.value.field
