"""Streamed answers as known servers of OpenAI Chat Completions write them.

Each deviates from OpenAI's form in a way that was reported in public, or is OpenAI's own."""

from tests.formats.openai_chat.call_stream_samples import CALLS
from tests.formats.openai_chat.character_stream_samples import CHARACTERS
from tests.formats.openai_chat.sample_chunks import (
    COUNTED,
    DONE,
    FIRST,
    HEAD,
    HI,
    STOP,
    USAGE,
    YOU,
    bare_stream,
    chunk,
    joined,
    said,
)
from tests.formats.stream_samples import Sample, event

PLAIN = Sample(
    "openai", joined(FIRST, HI, YOU, STOP, COUNTED, DONE), is_complete=True, is_counted=True
)

AZURE = Sample(
    "azure: filter results first, a choice without delta, usage in the last",
    joined(
        event(
            {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
            | {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
        ),
        FIRST,
        HI,
        YOU,
        STOP,
        chunk(
            {
                "index": 0,
                "finish_reason": None,
                "content_filter_offsets": {"check_offset": 1},
                "content_filter_results": {"hate": {"filtered": False}},
            }
        ),
        COUNTED,
        DONE,
    ),
    is_counted=True,
)

TEXT = (
    PLAIN,
    AZURE,
    Sample(
        "openrouter: comments, role and empty content in each chunk, usage with the last words",
        b": OPENROUTER PROCESSING\n\n"
        + joined(
            chunk(said(role="assistant", content="Hi")),
            chunk(said(role="assistant", content=" you")),
            chunk(said("stop", role="assistant", content=""), usage=USAGE),
            DONE,
        ),
        is_counted=True,
    ),
    Sample(
        "empty finish until the last",
        joined(
            chunk({**said(role="assistant", content="Hi"), "finish_reason": ""}),
            chunk({**said(content=" you"), "finish_reason": ""}),
            STOP,
            DONE,
        ),
    ),
    Sample(
        "tool_calls null or empty beside words",
        joined(
            chunk(said(role="assistant", content="Hi", tool_calls=None)),
            chunk(said(content=" you", tool_calls=[])),
            chunk(said("stop", content=None, tool_calls=None)),
            DONE,
        ),
        is_complete=True,
    ),
    Sample(
        "delta null at the finish",
        joined(FIRST, HI, YOU, chunk({"index": 0, "delta": None, "finish_reason": "stop"}), DONE),
    ),
    Sample(
        "delta missing at the finish",
        joined(FIRST, HI, YOU, chunk({"index": 0, "finish_reason": "stop"}), DONE),
    ),
    Sample(
        "nothing but choices",
        bare_stream(
            {"choices": [{"delta": {"content": "Hi"}}]},
            {"choices": [{"delta": {"content": " you"}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        ),
    ),
    Sample(
        "choices null beside usage",
        joined(FIRST, HI, YOU, STOP, event(HEAD | {"choices": None, "usage": USAGE}), DONE),
        is_counted=True,
    ),
    Sample(
        "choices missing beside usage",
        joined(FIRST, HI, YOU, STOP, event(HEAD | {"usage": USAGE}), DONE),
        is_counted=True,
    ),
    Sample(
        "whole messages in place of deltas",
        joined(
            chunk({"index": 0, "message": {"role": "assistant", "content": "Hi you"}}), STOP, DONE
        ),
    ),
    Sample(
        "another id in each chunk",
        joined(
            *(
                chunk(choice, id=f"chatcmpl-{number}")
                for number, choice in enumerate(
                    [said(role="assistant", content="Hi"), said(content=" you"), said("stop")]
                )
            ),
            DONE,
        ),
    ),
    Sample(
        "finish in another vendor's words",
        joined(FIRST, HI, YOU, chunk(said("MAX_TOKENS")), DONE),
        finish="length",
    ),
    Sample("no [DONE]", joined(FIRST, HI, YOU, STOP)),
    Sample("finish twice", joined(FIRST, HI, YOU, STOP, STOP, DONE), is_complete=True),
    Sample(
        "logprobs and usage that are no objects",
        joined(
            chunk({**said(role="assistant", content="Hi"), "logprobs": []}),
            chunk(said(content=" you"), usage="many"),
            STOP,
            DONE,
        ),
    ),
)

THINKING = (
    Sample(
        "content in parts, as Mistral thinks",
        joined(
            chunk(
                said(
                    role="assistant",
                    content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}],
                )
            ),
            chunk(said(content=[{"type": "text", "text": "Hi"}])),
            chunk(said(content=[{"type": "reference", "reference_ids": [1]}])),
            chunk(said(content=[" you"])),
            STOP,
            DONE,
        ),
        thinking="hm",
    ),
    Sample(
        "reasoning_content",
        joined(
            chunk(said(role="assistant", content=None, reasoning_content="hm")),
            chunk(said(content="Hi", reasoning_content=None)),
            YOU,
            STOP,
            DONE,
        ),
        thinking="hm",
        is_complete=True,
    ),
    Sample(
        "reasoning, with details",
        joined(
            chunk(
                said(
                    role="assistant",
                    content="",
                    reasoning="hm",
                    reasoning_details=[
                        {"type": "reasoning.text", "text": "hm", "format": None, "index": 0}
                    ],
                )
            ),
            HI,
            YOU,
            STOP,
            DONE,
        ),
        thinking="hm",
        is_complete=True,
    ),
    Sample(
        "reasoning that is no text",
        joined(
            chunk(said(role="assistant", content="", reasoning={"x": 1}, reasoning_content=5)),
            HI,
            YOU,
            STOP,
            DONE,
        ),
    ),
)

OPENAI = (*TEXT, *THINKING, *CALLS, *CHARACTERS)
