"""The admin's static files from the application alone, as a new project under uvicorn has it."""

import httpx
import pytest

from llm_routing.asgi import get_asgi_application


@pytest.mark.parametrize(("debug", "status"), [(True, 200), (False, 404)])
async def test_static_files_are_served_only_in_development(settings, debug, status):
    settings.DEBUG = debug
    settings.ROOT_URLCONF = "llm_routing.urls"
    transport = httpx.ASGITransport(get_asgi_application())  # type: ignore[arg-type]  # Any scope
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.get("/static/admin/css/base.css")
    assert response.status_code == status
    assert ("text/css" in response.headers["content-type"]) is debug
