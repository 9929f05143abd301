"""`/api/llm/complete` and its neighbours over a real socket."""

import json
from decimal import Decimal
from typing import Any

from llm_routing.models import Provider

from .conftest import SSE, Gateway


def events_of(text: str) -> list[tuple[str, Any]]:
    """The named events of a native stream."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_body_and_headers_name_the_answering_target(gateway: Gateway) -> None:
    response = await gateway.complete("Hello there", tier="standard")
    assert response.status_code == 200
    body = response.json()
    assert "Hello there" in body["content"]
    assert (body["use_case"], body["tier"]) == ("debugging", "standard")
    assert (body["provider"], body["model"]) == ("first", "org/alpha:1")
    headers = response.headers
    assert headers["content-type"] == "application/json"
    assert headers["x-llm-provider"] == "first"
    assert headers["x-llm-model"] == "org/alpha:1"
    assert headers["x-llm-attempts"] == "1"
    assert headers["x-llm-cache"] in ("miss", "bypass")
    assert Decimal(headers["x-llm-cost-usd"]) == Decimal(body["cost_usd"]) > 0
    assert float(headers["x-llm-overhead-ms"]) >= 0
    assert headers["x-request-id"] == body["id"]


async def test_a_stream_begins_with_the_text_and_ends_with_the_whole_answer(
    gateway: Gateway,
) -> None:
    whole = (await gateway.complete("Hello there")).json()
    response = await gateway.complete("Hello there", stream=True)
    assert response.status_code == 200
    assert response.headers["content-type"] == SSE
    assert response.headers["x-accel-buffering"] == "no"
    assert "no-cache" in response.headers["cache-control"]
    assert response.headers["x-llm-provider"] == "first"
    assert "x-llm-cost-usd" not in response.headers
    events = events_of(response.text)
    assert {name for name, _ in events[:-1]} == {"delta"}
    text = "".join(data["text"] for _, data in events[:-1])
    name, done = events[-1]
    assert name == "done"
    assert done["content"] == text == whole["content"]
    assert done["usage"] == whole["usage"]
    assert done["cost_usd"] == whole["cost_usd"]
    assert done["id"] == response.headers["x-request-id"]


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


async def test_tool_calls_come_whole_streamed_or_not_from_either_kind_of_vendor(
    gateway: Gateway,
) -> None:
    for use_case in ("debugging", "thinking"):
        asked = {"tools": [TOOL], "tool_choice": "required", "use_case": use_case}
        answer = (await gateway.complete("The weather in Rome?", **asked)).json()
        assert answer["finish_reason"] == "tool_calls"
        (call,) = answer["tool_calls"]
        assert call["name"] == "get_weather"
        assert set(json.loads(call["arguments"])) == {"city"}
        streamed = await gateway.complete("The weather in Rome?", stream=True, **asked)
        events = events_of(streamed.text)
        (told,) = [data for name, data in events if name == "tool_call"]
        assert told["name"] == call["name"]
        assert json.loads(told["arguments"]) == json.loads(call["arguments"])
        assert events[-1][1]["tool_calls"] == [told]


async def test_a_conversation_with_tools_images_and_a_schema_is_understood(
    gateway: Gateway,
) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
    }
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "The weather in Rome?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    answer = await gateway.complete(messages, tools=[TOOL])
    assert "sunny" in answer.json()["content"]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    shaped = await gateway.complete(
        "A number",
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
    )
    assert isinstance(json.loads(shaped.json()["content"])["n"], int)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 3}, "temperature"),
    ({"temperature": "0.5"}, "temperature"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"top_p": True}, "top_p"),
    ({"stream": "yes"}, "stream"),
    ({"timeout": 0}, "timeout"),
    ({"surprise": 1}, "surprise"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"stop": 5}, "stop"),
    ({"tools": [{"type": "function"}]}, "tools.0.function"),
    ({"tool_choice": "sometimes"}, "tool_choice"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"messages": []}, "messages"),
    ({"messages": 5}, "messages"),
    ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages.0.role"),
    ({"messages": ["Hi"]}, "messages.0"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
]


async def test_a_wrong_field_is_named(gateway: Gateway) -> None:
    for body, field in WRONG:
        response = await gateway.post("/api/llm/complete", {"messages": "Hi", **body})
        assert response.status_code == 422, (body, response.text)
        error = response.json()["error"]
        assert error["code"] == "invalid_request"
        assert [problem["field"] for problem in error["fields"]] == [field], body
        assert response.json()["request_id"] == response.headers["x-request-id"]
    several = await gateway.post("/api/llm/complete", {"seed": "x", "user": 1})
    named = {problem["field"] for problem in several.json()["error"]["fields"]}
    assert named == {"messages", "seed", "user"}
    assert "sk-secret" not in (await gateway.complete(temperature="sk-secret")).text


async def test_a_system_prompt_beside_a_system_message_is_refused(gateway: Gateway) -> None:
    messages = [{"role": "system", "content": "A"}, {"role": "user", "content": "Hi"}]
    response = await gateway.complete(messages, system_prompt="B")
    assert response.status_code == 422
    assert response.json()["error"]["fields"][0]["field"] == "system_prompt"
    alone = await gateway.complete("Hi", system_prompt="Speak like a pirate.")
    assert "pirate" in alone.json()["content"]


async def test_the_error_for_an_unknown_name_lists_the_known_ones(gateway: Gateway) -> None:
    for body in ({"use_case": "gardening"}, {"model": "gpt-1"}):
        response = await gateway.post("/api/llm/complete", {"messages": "Hi", **body})
        assert response.status_code == 404
        error = response.json()["error"]
        assert error["code"] == "unknown_model"
        assert "debugging" in error["message"]
        assert "debugging" in error["known"]
    tier = await gateway.complete(tier="golden")
    assert tier.status_code == 404
    assert "premium" in tier.json()["error"]["message"]


async def test_any_address_reaches_its_model(gateway: Gateway) -> None:
    for address in ("best", "first/org/alpha:1", "debugging", "debugging:standard"):
        response = await gateway.post("/api/llm/complete", {"messages": "Hi", "model": address})
        assert response.headers["x-llm-model"] == "org/alpha:1", address


async def test_models_and_routes_list_the_configuration(gateway: Gateway) -> None:
    models = {
        model["id"]: model
        for model in (await gateway.client.get("/api/llm/models")).json()["models"]
    }
    assert models["first/org/alpha:1"]["alias"] == "best"
    assert Decimal(models["first/org/alpha:1"]["input_price"]) == 2
    assert models["second/beta"]["input_price"] is None
    routes = {
        route["id"]: route
        for route in (await gateway.client.get("/api/llm/routes")).json()["routes"]
    }
    targets = routes["debugging:standard"]["targets"]
    assert [target["model"] for target in targets] == ["first/org/alpha:1", "second/beta"]


async def test_health_is_public_and_details_need_a_key(gateway: Gateway) -> None:
    anybody = await gateway.client.get("/api/llm/health", headers={"Authorization": ""})
    assert anybody.status_code == 200
    assert anybody.json() == {"status": "healthy"}
    bearer = await gateway.client.get("/api/llm/health")
    assert set(bearer.json()["providers"]) == {"first", "second", "claude"}
    wrong = await gateway.client.get("/api/llm/health", headers={"Authorization": "Bearer x"})
    assert wrong.status_code == 401
    await Provider.objects.aupdate(is_active=False)
    down = await gateway.client.get("/api/llm/health")
    assert down.status_code == 503
    assert down.json()["status"] == "unhealthy"


async def test_an_error_in_the_middle_of_a_stream_is_its_last_event(gateway: Gateway) -> None:
    response = await gateway.complete("Hello there [[cut_after=3]]", stream=True)
    assert response.status_code == 200
    events = events_of(response.text)
    assert events[0][0] == "delta"
    name, data = events[-1]
    assert name == "error"
    assert data["error"]["code"] in ("connection_lost", "truncated_stream")
    assert data["request_id"] == response.headers["x-request-id"]
    assert "done" not in [name for name, _ in events]


async def test_a_timeout_of_the_caller_s_ends_the_request(gateway: Gateway) -> None:
    response = await gateway.complete("Hi [[delay=60]]", timeout=2)
    assert response.status_code == 504
    assert response.json()["error"]["attempts"][0]["target"] == "first/org/alpha:1"


async def test_thousands_of_unknown_fields_are_refused_without_a_look_at_each(
    gateway: Gateway,
) -> None:
    """pydantic makes an error of each: four seconds for a million."""
    unknown = {f"field_{number}": 1 for number in range(50_000)}
    response = await gateway.complete("Hello there", tier=7, **unknown)
    assert response.status_code == 422
    fields = [item["field"] for item in response.json()["error"]["fields"]]
    assert "tier" in fields
    assert len(fields) == 20


async def test_labels_are_bounded(gateway: Gateway) -> None:
    labels = {f"label_{number}": "a" for number in range(1000)}
    assert (await gateway.complete("Hello there", metadata=labels)).status_code == 200
    response = await gateway.complete("Hello there", metadata={**labels, "another": 1})
    assert response.status_code == 422
    [field] = response.json()["error"]["fields"]
    assert field["field"] == "metadata"
    assert "at most 1000 labels" in field["message"]
