"""The OpenAPI document: whole, right under any prefix, and true."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path
from hypothesis import HealthCheck, given, settings
from ninja import NinjaAPI
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from llm_routing.api import build_api, get_api
from project.urls import urlpatterns as project_urls

from .conftest import Gateway

ENDPOINTS = {
    ("post", "/api/llm/complete"),
    ("get", "/api/llm/models"),
    ("get", "/api/llm/routes"),
    ("get", "/api/llm/health"),
    ("get", "/api/llm/health/live"),
    ("get", "/api/llm/health/ready"),
    ("get", "/metrics"),
    ("post", "/v1/chat/completions"),
    ("post", "/v1/embeddings"),
    ("get", "/v1/models"),
    ("get", "/v1/models/{model_id}"),
    ("post", "/v1/messages"),
    ("post", "/v1/messages/count_tokens"),
}

host_api = NinjaAPI(title="The project's own")


@host_api.get("/hello")
def hello(request: HttpRequest) -> str:
    return "hello"


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("home")


urlpatterns = [
    path("gateway/", include("llm_routing.urls")),
    path("own/", host_api.urls),
    path("second/", build_api("llm_routing_second").urls),
    path("", home),
]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_endpoint_is_documented_with_its_bodies(client: Client) -> None:
    document = client.get("/api/llm/openapi.json").json()
    found = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert found == ENDPOINTS
    for method, address in ENDPOINTS:
        operation = document["paths"][address][method]
        assert operation["description"]
        answers = operation["responses"]
        media_type = "text/plain" if address == "/metrics" else "application/json"
        assert "schema" in answers["200"]["content"][media_type]
        for status in ("400", "401", "404", "413", "502", "503"):
            assert "schema" in answers[status]["content"]["application/json"]
        if method == "post":
            assert "schema" in operation["requestBody"]["content"]["application/json"]
        if not address.startswith("/api/llm/health"):
            assert operation["security"] == [{"BearerKey": []}, {"HeaderKey": []}]
    schemas = document["components"]["schemas"]
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas
    ids = [each["operationId"] for paths in document["paths"].values() for each in paths.values()]
    assert len(ids) == len(set(ids))


def test_the_page_is_there_without_a_key(client: Client) -> None:
    page = client.get("/api/llm/docs")
    assert page.status_code == 200
    assert "swagger" in page.text
    assert '"url": "openapi.json"' in page.text


@pytest.mark.urls(__name__)
async def test_a_prefix_and_other_apis_change_nothing(async_client: AsyncClient) -> None:
    document = (await async_client.get("/gateway/api/llm/openapi.json")).json()
    assert document["servers"] == [{"url": "../.."}]
    assert "/v1/chat/completions" in document["paths"]
    for prefix in ("/gateway", "/second"):
        refused = await async_client.get(f"{prefix}/v1/models")
        assert refused.status_code == 401
        unknown = await async_client.get(f"{prefix}/v1/messages/nothing")
        assert unknown.json()["type"] == "error"
    assert (await async_client.get("/own/hello")).json() == "hello"
    assert (await async_client.get("/")).content == b"home"


async def test_the_root_is_left_to_the_project(async_client: AsyncClient) -> None:
    root = await async_client.get("/")
    assert (root.status_code, root.headers["Location"]) == (302, "/admin/")
    assert get_api() is get_api()
    assert len(project_urls) == 3


async def test_the_native_api_is_as_documented(gateway: Gateway) -> None:
    """schemathesis generates bounded requests from the document; all get documented responses, and
    none an internal error."""
    document = (await gateway.client.get("/api/llm/openapi.json")).json()
    schema = schemathesis.openapi.from_dict(document).include(path_regex="^/api/llm/")
    operations = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
    assert len(operations) == 6
    for operation in operations:
        await asyncio.to_thread(check, operation, GenerationMode.POSITIVE, gateway)
        if operation.method == "post":
            await asyncio.to_thread(check, operation, GenerationMode.NEGATIVE, gateway)


def check(operation: Any, mode: GenerationMode, gateway: Gateway) -> None:
    headers = {"Authorization": f"Bearer {gateway.key}"}

    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers_as_documented(case: schemathesis.Case) -> None:
        # A schema cannot express everything that vendors reject, such as a tool's result without
        # its call.
        case.call_and_validate(
            base_url=gateway.url, headers=headers, excluded_checks=[positive_data_acceptance]
        )

    answers_as_documented()


def test_the_document_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests for it need no key, and building it takes 200 ms."""
    first = Client().get("/api/llm/openapi.json")
    monkeypatch.setattr("ninja.main.get_schema", lambda **_: pytest.fail("made again"))
    assert Client().get("/api/llm/openapi.json").content == first.content
