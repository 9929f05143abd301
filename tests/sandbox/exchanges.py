"""Requests in both formats, for tests of faults."""

import pytest

from .raw import CHAT, MESSAGES, chat, message

# Both formats, with a request for one text.
FORMATS = [(CHAT, chat), (MESSAGES, message)]
both_formats = pytest.mark.parametrize(("path", "body"), FORMATS)


def content_chunks(data: bytes) -> int:
    return data.count(b'"delta":{"content":"') + data.count(b'"text_delta"')
