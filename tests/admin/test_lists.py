"""Filters and searches in list URLs, and the display of targets behind open breakers."""

import pytest
from django.utils import timezone

from llm_routing.models import ApiKey, BreakerReport
from tests import rows

NUL = "\x00"


def open_breaker(provider, model=""):
    now = timezone.now()
    BreakerReport.objects.create(
        process="p",
        provider=provider,
        model=model,
        state="open",
        opened_at=now,
        retry_at=now,
        seen_at=now,
    )


class TestFilters:
    @pytest.mark.parametrize(
        ("model", "query"),
        [
            ("provider", {"encrypted_key__regex": "^g"}),
            ("provider", {"encrypted_key__startswith": "g"}),
            ("provider", {"vendor__regex": "^o"}),
            ("provider", {"history__encrypted_key__startswith": "g"}),
            ("modelconfig", {"provider__encrypted_key__startswith": "g"}),
            ("apikey", {"digest__startswith": "a"}),
            ("apikey", {"digest__lt": "a"}),
            ("usagerecord", {"request_id__regex": "(a+)+$"}),
        ],
    )
    def test_no_hidden_column_is_read_by_a_filter(self, operator_with, url, model, query):
        reader = operator_with(f"view_{model}")
        assert reader.get(url(model), query).status_code == 400

    @pytest.mark.parametrize(
        ("model", "query"),
        [
            ("provider", {"is_active__exact": "1", "vendor": "openai"}),
            ("modelconfig", {"provider__id__exact": "1", "capability": "chat", "priced": "yes"}),
            ("modelconfig", {"vanished_at__isempty": "1"}),
            ("usecaseroute", {"tier__exact": "premium", "use_case": "debugging"}),
            (
                "usagerecord",
                {
                    "started_at__gte": "2026-11-01 00:00:00+00:00",
                    "tenant": "a",
                    "outcome": "success",
                },
            ),
            ("healthcheck", {"is_healthy__exact": "0", "provider": "openai"}),
        ],
    )
    def test_every_filter_on_offer_is_allowed(self, operator, url, model, query):
        assert operator.get(url(model), query).status_code == 200


LISTS = ["provider", "modelconfig", "usecaseroute", "apikey", "usagerecord", "healthcheck"]


class TestOddSearches:
    @pytest.mark.parametrize("model", LISTS)
    @pytest.mark.parametrize("text", [NUL, f"a{NUL}b", "word " * 3000, "x" * 100_000, "'\"\\%_"])
    def test_a_search_never_fails(self, operator, url, model, text):
        assert operator.get(url(model), {"q": text}).status_code == 200

    @pytest.mark.parametrize(
        ("model", "name"),
        [("provider", "vendor"), ("usecaseroute", "use_case"), ("usagerecord", "tenant")],
    )
    def test_a_nul_in_a_filter_is_a_wrong_parameter(self, operator, url, model, name):
        answer = operator.get(url(model), {name: NUL})
        assert (answer.status_code, answer.url) == (302, f"{url(model)}?e=1")

    def test_the_search_for_a_target_s_model_never_fails(self, operator, url):
        rows.model()
        query = {"app_label": "llm_routing", "model_name": "routetarget", "field_name": "model"}
        for term in (NUL, "word " * 3000, "openai/gpt"):
            answer = operator.get("/admin/autocomplete/", query | {"term": term})
            assert answer.status_code == 200
        assert [found["text"] for found in answer.json()["results"]] == ["openai/gpt"]


class TestAddresses:
    @pytest.fixture(autouse=True)
    def three_routes(self, db):
        gpt, other = rows.model("gpt"), rows.model("gpt", of="acme")
        rows.route("debugging", gpt, tier="premium")
        rows.route("debugging", other, tier="standard")
        rows.route("translation", other, tier="premium")

    @pytest.mark.parametrize(
        ("term", "found"),
        [
            ("debugging:premium", ["debugging:premium"]),
            ("debugging", ["debugging:premium", "debugging:standard"]),
            (":premium", ["debugging:premium", "translation:premium"]),
            ("acme/gpt", ["debugging:standard", "translation:premium"]),
            ("openai/gpt", ["debugging:premium"]),
            ("acme/nothing", []),
        ],
    )
    def test_routes_are_found_by_every_address(self, operator, url, term, found):
        page = operator.get(url("usecaseroute"), {"q": term})
        assert sorted(str(row) for row in page.context["cl"].result_list) == found

    @pytest.mark.parametrize(
        ("term", "found"), [("acme/gpt", 1), ("gpt", 2), ("acme", 1), ("acme/g", 1), ("x/gpt", 0)]
    )
    def test_models_are_found_by_their_address(self, operator, url, term, found):
        page = operator.get(url("modelconfig"), {"q": term})
        assert len(page.context["cl"].result_list) == found


class TestOpenBreakers:
    def text(self, operator, url, model="usecaseroute"):
        return operator.get(url(model)).content.decode()

    def test_a_route_shows_that_every_target_is_unavailable(self, operator, url):
        rows.route("debugging", rows.model("a", of="one"), rows.model("b", of="two"))
        assert "2 providers" in self.text(operator, url)
        open_breaker("one", "a")
        assert "1 of 2 providers" in self.text(operator, url)
        assert self.text(operator, url).count("Circuit open") == 1
        open_breaker("two")
        page = self.text(operator, url)
        assert "Every circuit breaker is open" in page
        assert page.count("Circuit open") == 2

    def test_a_model_with_an_open_breaker_is_not_counted_as_active(self, operator, url):
        model = rows.model("a")
        route = rows.route("debugging", model)
        assert "In use" in self.text(operator, url, "modelconfig")
        open_breaker("openai")
        assert "In use" not in self.text(operator, url, "modelconfig")
        form = operator.get(url("usecaseroute", "change", route.pk)).content.decode()
        assert "Circuit open" in form
        assert "In use" not in form

    def test_the_sandbox_is_no_provider_beside_a_real_one(self, operator, url):
        rows.provider("sandbox", vendor="sandbox")
        route = rows.route("debugging", rows.model("s", of="sandbox"), rows.model("a"))
        assert "One provider, no fallback" in self.text(operator, url)
        assert "2 providers" not in self.text(operator, url)
        route.targets.filter(model__model_id="a").delete()
        assert "Sandbox only" in self.text(operator, url)


def test_the_keys_of_the_filters_are_no_secret(operator, url):
    key, clear_text = ApiKey.objects.issue("key")
    page = operator.get(url("apikey")).content.decode()
    assert key.digest not in page
    assert clear_text not in page
