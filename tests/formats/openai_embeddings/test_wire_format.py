"""Reads and writes embedding requests and responses of OpenAI."""

import copy
import json
import struct
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from openai.types import CreateEmbeddingResponse

from llm_routing.core.embeddings import EmbeddingRequest, EmbeddingResponse, Embeddings
from llm_routing.core.errors import (
    InvalidRequest,
    MalformedAnswer,
    RateLimited,
    UnsupportedRequest,
)
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.types import RoutingFacts, Usage
from llm_routing.formats.openai_embeddings.wire_format import OpenAIEmbeddings
from tests.formats.vendor_requests import target as vendor_target

FORMAT = OpenAIEmbeddings()
TARGET = Target(
    ProviderSpec("vendor", "vendor", "openai_chat", "https://v/v1"), ModelSpec("vendor", "embed-1")
)


def answer(*embeddings: Any, **fields: Any) -> bytes:
    data = [
        {"object": "embedding", "index": index, "embedding": embedding}
        for index, embedding in enumerate(embeddings)
    ]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    return json.dumps(
        {"object": "list", "data": data, "model": "m", "usage": usage} | fields
    ).encode()


def test_impossible_counts_are_ignored() -> None:
    found = FORMAT.read_embeddings(answer([1.0], usage={"prompt_tokens": -4}))
    assert found.usage is None
    assert json.loads(found.raw or b"")["usage"] is None


def packed(*values: float) -> str:
    return b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def sent(request: EmbeddingRequest) -> dict[str, Any]:
    wire = FORMAT.write_embedding_request(request, TARGET)
    assert (wire.method, wire.path) == ("POST", "/embeddings")
    assert wire.headers["content-type"] == "application/json"
    return json.loads(wire.body)


@pytest.mark.parametrize(
    ("given_input", "inputs"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_inputs_are_texts_or_tokens(given_input: Any, inputs: Any) -> None:
    request = FORMAT.read_embedding_request({"model": "m", "input": given_input})
    assert (request.inputs, request.model) == (inputs, "m")
    assert sent(request) == {"model": "embed-1", "input": given_input}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": [True]}, "input"),
        ({"input": [[1], []]}, "input"),
        ({"input": [[1], ["a"]]}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"user": 3}, "user"),
    ],
)
def test_invalid_fields_are_named_by_their_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        FORMAT.read_embedding_request({"model": "m", "input": "a", **fields})
    assert caught.value.field == path


def test_the_callers_body_is_relayed_with_unknown_fields() -> None:
    body = {
        "model": "m",
        "input": "a",
        "dimensions": 8,
        "encoding_format": "base64",
        "user": "u",
        "input_type": "query",
    }
    before = copy.deepcopy(body)
    request = FORMAT.read_embedding_request(body)
    assert (request.dimensions, request.encoding_format, request.user) == (8, "base64", "u")
    assert sent(request) == {**body, "model": "embed-1"}
    assert sent(replace(request, extra={"truncate": True}))["truncate"] is True
    assert body == before


def test_a_request_in_process_is_written_from_its_fields() -> None:
    request = EmbeddingRequest(("a", "b"), dimensions=8)
    assert sent(request) == {"model": "embed-1", "input": ["a", "b"], "dimensions": 8}
    settled = EmbeddingRequest(("a",), encoding_format="float", user="u")
    assert sent(settled) == {
        "model": "embed-1",
        "input": ["a"],
        "encoding_format": "float",
        "user": "u",
    }
    with pytest.raises(UnsupportedRequest):
        FORMAT.write_embedding_request(EmbeddingRequest(("\ud800",)), TARGET)


def test_vectors_are_floats_or_base64() -> None:
    body = answer([0.5, -1], packed(0.25, 2.0))
    assert FORMAT.read_embeddings(body) == Embeddings(
        "m", ((0.5, -1.0), (0.25, 2.0)), Usage(4), "openai_embeddings", body
    )


def test_vectors_are_put_in_the_order_of_their_inputs() -> None:
    data = [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": [0.0]}]
    assert FORMAT.read_embeddings(answer(data=data)).vectors == ((0.0,), (1.0,))
    unnumbered = [{"embedding": [1.0]}, {"embedding": [0.0]}]
    assert FORMAT.read_embeddings(answer(data=unnumbered)).vectors == ((1.0,), (0.0,))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        answer(),
        answer(data=None),
        answer(data=["x"]),
        answer(None),
        answer([]),
        answer({"values": [1]}),
        answer(["a"]),
        answer([[1.0]]),
        answer("not base64!"),
        answer("grüße"),
        answer("AAAA"),
    ],
)
def test_a_body_that_is_not_an_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        FORMAT.read_embeddings(body)


def test_an_error_inside_a_200_raises_its_error() -> None:
    with pytest.raises(RateLimited):
        FORMAT.read_embeddings(b'{"error": {"code": 429, "message": "slow"}}')


def rendered(embeddings: Embeddings, encoding_format: str | None = None) -> bytes:
    response = EmbeddingResponse(embeddings, RoutingFacts("req-1", "vendor", "m"))
    return FORMAT.write_embeddings(
        response, EmbeddingRequest(("a",), encoding_format=encoding_format)
    )


def test_an_answer_in_this_format_is_relayed_byte_by_byte() -> None:
    body = answer([0.5], x_unknown=1)
    assert rendered(FORMAT.read_embeddings(body)) is body


def test_an_answer_of_another_format_is_written_like_openais() -> None:
    body = rendered(Embeddings("m", ((0.5, 1.0), (2.0, 3.0)), Usage(4), "other", b"{}"))
    CreateEmbeddingResponse.model_validate_json(body, strict=True)
    assert json.loads(body) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [2.0, 3.0]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_every_vector_survives_base64(vector: list[float]) -> None:
    body = rendered(Embeddings("m", (tuple(vector),), None), "base64")
    assert isinstance(json.loads(body)["data"][0]["embedding"], str)
    assert FORMAT.read_embeddings(body).vectors == (tuple(vector),)


@pytest.mark.parametrize(
    ("vendor", "expected", "ignored"),
    [
        ("mistral", {"output_dimension": 8, "encoding_format": "float"}, ("user",)),
        ("google", {"dimensions": 8, "encoding_format": "float"}, ("user",)),
        ("openai", {"dimensions": 8, "encoding_format": "float", "user": "u"}, ()),
    ],
)
def test_fields_are_fitted_to_the_vendor(
    vendor: str, expected: dict[str, Any], ignored: tuple[str, ...]
) -> None:
    asked = {"dimensions": 8, "encoding_format": "float", "user": "u"}
    body = {"model": "m", "input": "Hi", **asked}
    request = OpenAIEmbeddings().read_embedding_request(body)

    wire = OpenAIEmbeddings().write_embedding_request(request, vendor_target(vendor))

    assert json.loads(wire.body) == {"model": "big-1", "input": "Hi", **expected}
    assert wire.ignored == ignored


def test_absent_fields_are_not_renamed() -> None:
    request = OpenAIEmbeddings().read_embedding_request({"model": "m", "input": "Hi"})

    wire = OpenAIEmbeddings().write_embedding_request(request, vendor_target("mistral"))

    assert json.loads(wire.body) == {"model": "big-1", "input": "Hi"}
