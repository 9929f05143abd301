"""A configuration change reaches a running server without a restart."""

import httpx

from llm_routing.models import ApiKey, ModelConfig, UseCaseRoute
from tests.servers import Gateway
from tests.waiting import until


def test_changes_of_models_routes_and_keys_reach_a_running_server(live_gateway: Gateway) -> None:
    with httpx.Client(base_url=live_gateway.url, headers=live_gateway.headers) as client:

        def ask(use_case: str) -> httpx.Response:
            body = {"messages": "Hi", "use_case": use_case, "cache": False}
            return client.post("/api/llm/complete", json=body)

        assert ask("debugging").json()["model"] == "sandbox-standard"
        assert ask("gardening").status_code == 404

        model = ModelConfig.objects.get(model_id="sandbox-economy")
        UseCaseRoute.objects.create(use_case="gardening", tier="standard").targets.create(
            model=model
        )
        until(lambda: ask("gardening").status_code == 200)
        assert ask("gardening").json()["model"] == "sandbox-economy"

        ModelConfig.objects.filter(pk=model.pk).update(is_active=False)
        until(lambda: ask("gardening").status_code == 503)

        ApiKey.objects.filter(name="tests").update(is_active=False)
        until(lambda: ask("debugging").status_code == 401)
