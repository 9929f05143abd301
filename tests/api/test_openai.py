"""`/v1` as OpenAI's clients know it, over a real socket: shapes, pass-through and models."""

import base64
import json
import struct
from typing import Any

import httpx

from llm_routing.models import ModelConfig

from .conftest import SSE, Gateway

CROSSINGS = ("debugging", "thinking")


def chunks_of(text: str) -> list[Any]:
    """The chunks of a stream, without its `[DONE]`, which must be its end."""
    lines = [line for line in text.split("\n\n") if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def directly(gateway: Gateway, body: Any) -> httpx.Response:
    """The same request, put to the sandbox itself."""
    url = f"{gateway.sandbox.openai_url}/chat/completions"
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.post(url, json={**body, "model": "org/alpha:1"})


async def test_either_kind_of_vendor_gives_the_same_shape(gateway: Gateway) -> None:
    shapes = []
    for use_case in CROSSINGS:
        response = await gateway.chat("Hello there", model=use_case)
        assert response.status_code == 200
        body = response.json()
        assert body["object"] == "chat.completion"
        assert isinstance(body["created"], int)
        assert body["created"] > 0
        assert body["choices"][0]["finish_reason"] == "stop"
        assert "Hello there" in body["choices"][0]["message"]["content"]
        usage = body["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
        shapes.append((set(body) - {"system_fingerprint", "service_tier"}, set(body["choices"][0])))
    assert shapes[0] == shapes[1]


async def test_unknown_fields_are_passed_to_vendors_of_the_same_format(
    gateway: Gateway,
) -> None:
    response = await gateway.chat(
        "Hi [[echo_request extra_fields]]",
        temperature=0.5,
        future_field={"a": [1, None]},
        logit_bias={"5": 1},
    )
    body = response.json()
    sent = json.loads(body["choices"][0]["message"]["content"])
    assert sent["future_field"] == {"a": [1, None]}
    assert sent["logit_bias"] == {"5": 1}
    assert (sent["model"], sent["temperature"]) == ("org/alpha:1", 0.5)
    direct = (
        await directly(gateway, {"messages": [{"role": "user", "content": "Hi [[extra_fields]]"}]})
    ).json()
    assert set(body) == set(direct)
    assert set(body["choices"][0]["message"]) == set(direct["choices"][0]["message"])


async def test_a_stream_between_the_same_formats_is_relayed_byte_for_byte(gateway: Gateway) -> None:
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Hello [[extra_fields comments]]"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    response = await gateway.chat(**body)
    assert response.headers["content-type"] == SSE
    direct = await directly(gateway, body)
    assert response.content == direct.content


async def test_a_stream_ends_with_usage_only_if_requested(gateway: Gateway) -> None:
    for use_case in CROSSINGS:
        without = chunks_of((await gateway.chat("Hello", model=use_case, stream=True)).text)
        assert all(chunk["choices"] for chunk in without)
        assert not any(chunk.get("usage") for chunk in without)
        asked = {"stream": True, "stream_options": {"include_usage": True}}
        with_usage = chunks_of((await gateway.chat("Hello", model=use_case, **asked)).text)
        assert with_usage[-1]["choices"] == []
        assert with_usage[-1]["usage"]["completion_tokens"] > 0
        text = "".join(
            choice["delta"].get("content") or ""
            for chunk in with_usage
            for choice in chunk["choices"]
        )
        assert "Hello" in text


async def test_an_error_in_the_middle_of_a_stream_ends_it_without_done(gateway: Gateway) -> None:
    for use_case in CROSSINGS:
        response = await gateway.chat("Hello [[cut_after=3]]", model=use_case, stream=True)
        assert response.status_code == 200
        last = [block for block in response.text.split("\n\n") if block][-1]
        error = json.loads(last.removeprefix("data: "))["error"]
        assert error["code"] in ("connection_lost", "truncated_stream")
        assert "[DONE]" not in response.text


async def test_several_choices_and_logprobs_come_through(gateway: Gateway) -> None:
    response = await gateway.chat("Hi", n=2, logprobs=True, top_logprobs=1, seed=1, stop=["zzz"])
    choices = response.json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert choices[0]["logprobs"]["content"]
    refused = await gateway.chat("Hi", n=2, model="thinking")
    assert refused.status_code == 400


async def test_unsupported_fields_are_listed_in_a_header(gateway: Gateway) -> None:
    response = await gateway.chat("Hi", model="thinking", seed=5)
    assert response.status_code == 200
    assert response.headers["x-llm-ignored"] == "seed"


async def test_a_fallback_counts_its_attempts(gateway: Gateway) -> None:
    response = await gateway.chat("Hi [[status=500 model=org/alpha:1]]")
    assert response.status_code == 200
    assert response.headers["x-llm-attempts"] == "3"
    assert response.headers["x-llm-provider"] == "second"


async def test_embeddings_in_either_encoding(gateway: Gateway) -> None:
    plain = await gateway.post(
        "/v1/embeddings", {"model": "memory_processing", "input": ["a", "b"], "dimensions": 4}
    )
    assert plain.status_code == 200
    vectors = [entry["embedding"] for entry in plain.json()["data"]]
    assert [len(vector) for vector in vectors] == [4, 4]
    assert plain.headers["x-llm-model"] == "vectors"
    coded = await gateway.post(
        "/v1/embeddings",
        {
            "model": "first/vectors",
            "input": "a",
            "dimensions": 4,
            "encoding_format": "base64",
        },
    )
    raw = base64.b64decode(coded.json()["data"][0]["embedding"])
    assert struct.unpack("<4f", raw) == tuple(
        struct.unpack("<f", struct.pack("<f", number))[0] for number in vectors[0]
    )
    for body, field in (
        ({"model": "memory_processing"}, "input"),
        ({"input": "a"}, "model"),
        ({"model": "memory_processing", "input": []}, "input"),
    ):
        wrong = await gateway.post("/v1/embeddings", body)
        assert wrong.status_code == 400
        assert wrong.json()["error"]["param"] == field
    chat = await gateway.post("/v1/embeddings", {"model": "first/org/alpha:1", "input": "a"})
    assert chat.status_code == 400


async def test_everything_that_can_be_addressed_is_a_model(gateway: Gateway) -> None:
    listed = (await gateway.client.get("/v1/models")).json()
    assert listed["object"] == "list"
    models = {model["id"]: model for model in listed["data"]}
    assert {"debugging", "debugging:premium", "best", "first/org/alpha:1"} <= set(models)
    for address, model in models.items():
        assert model["object"] == "model"
        one = await gateway.client.get(f"/v1/models/{address}")
        assert one.json() == model
        quoted = await gateway.client.get(
            httpx.URL(f"{gateway.url}/v1/models/").copy_with(
                raw_path=b"/v1/models/" + address.replace("/", "%2F").encode()
            )
        )
        assert quoted.json() == model
    unknown = await gateway.client.get("/v1/models/gpt-1")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"
    assert "debugging" in unknown.json()["error"]["message"]


async def test_models_in_anthropic_s_shape_for_anthropic_s_clients(gateway: Gateway) -> None:
    speaking = {"anthropic-version": "2023-06-01"}
    get = gateway.client.get
    everything = (await get("/v1/models", headers=speaking)).json()
    assert not everything["has_more"]
    ids = [model["id"] for model in everything["data"]]
    assert everything["data"][0]["type"] == "model"
    assert (everything["first_id"], everything["last_id"]) == (ids[0], ids[-1])
    seen: list[str] = []
    page: dict[str, Any] = {"has_more": True, "last_id": None}
    while page["has_more"]:
        query = {"limit": "3"} | ({"after_id": page["last_id"]} if seen else {})
        page = (await get("/v1/models", headers=speaking, params=query)).json()
        seen += [model["id"] for model in page["data"]]
    assert seen == ids
    before = (
        await get("/v1/models", headers=speaking, params={"before_id": ids[4], "limit": "2"})
    ).json()
    assert [model["id"] for model in before["data"]] == ids[2:4]
    assert before["has_more"]
    for bound in ({"after_id": ""}, {"before_id": ""}, {"after_id": "gone"}, {"before_id": "gone"}):
        first = await get("/v1/models", headers=speaking, params=bound | {"limit": "2"})
        assert first.status_code == 200
        assert [model["id"] for model in first.json()["data"]] == ids[:2]
    for query in ({"limit": "0"}, {"limit": "x"}, {"limit": "9" * 50}, {"lifecycle[]": "new"}):
        wrong = await get("/v1/models", headers=speaking, params=query)
        assert wrong.status_code == 400
        assert wrong.json()["type"] == "error"
    unknown = await get("/v1/models/gpt-1", headers=speaking)
    assert unknown.status_code == 404
    assert unknown.json()["error"]["type"] == "not_found_error"


async def test_a_name_that_no_header_can_carry_breaks_none(gateway: Gateway) -> None:
    await ModelConfig.objects.filter(model_id="org/alpha:1").aupdate(model_id="größe\r\nx-evil: 1")
    await ModelConfig.objects.filter(alias="best").aupdate(display_name="")
    response = await gateway.chat()
    assert response.status_code == 200
    assert response.headers["x-llm-model"] == "gr%C3%B6%C3%9Fe%0D%0Ax-evil: 1"
    assert "x-evil" not in response.headers
