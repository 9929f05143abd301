"""Every page opens, shows the relevant state, and needs no more queries for more rows."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from llm_routing.admin.base import BoundedPaginator
from llm_routing.models import ApiKey, HealthCheck, ModelConfig, UsageRecord
from tests import rows

NOW = timezone.now()


def fill(start, stop):
    """Rows of every kind."""
    for n in range(start, stop):
        model = rows.model(
            f"model-{n}",
            of=f"provider-{n}",
            alias=f"alias-{n}",
            input_price=1,
            output_price=2,
            capabilities=["chat", "vision"],
        )
        other = rows.model(f"other-{n}", of="shared")
        rows.route(f"use-case-{n}", model, other)
        ApiKey.objects.issue(f"key-{n}")
        rows.usage(str(n), NOW - timedelta(minutes=n), use_case="debugging", tier="premium")
        HealthCheck.objects.create(provider="shared", is_healthy=bool(n % 2), checked_at=NOW)


LISTS = ["provider", "modelconfig", "usecaseroute", "apikey", "usagerecord", "healthcheck"]


@pytest.mark.parametrize("model", LISTS)
def test_a_list_asks_as_many_queries_for_many_rows_as_for_few(operator, url, model):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert operator.get(url(model)).status_code == 200
        return len(captured)

    fill(0, 2)
    queries()
    few = queries()
    fill(2, 12)
    assert queries() == few, "a column queries for each row; annotate in get_queryset instead"


@pytest.mark.parametrize("model", LISTS[:4])
def test_history_asks_as_many_queries_for_many_changes_as_for_few(operator, url, model):
    def queries(page, *args):
        with CaptureQueriesContext(connection) as captured:
            assert operator.get(url(model, page, *args)).status_code == 200
        return len(captured)

    fill(0, 2)
    queries("changes")
    few = queries("changes")
    fill(2, 12)
    assert queries("changes") == few


def test_a_route_s_form_asks_as_many_queries_for_many_targets_as_for_few(operator, url):
    models = [rows.model(f"m{n}", of=f"p{n}") for n in range(10)]
    short = rows.route("short", *models[:1])
    long = rows.route("long", *models)

    def queries(route):
        with CaptureQueriesContext(connection) as captured:
            page = operator.get(url("usecaseroute", "change", route.pk)).content.decode()
        assert "p0/m0" in page
        return len(captured)

    queries(short)
    assert queries(short) == queries(long)


def test_the_search_for_a_model_asks_one_query_for_all_names(operator):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            answer = operator.get(
                "/admin/autocomplete/",
                {"app_label": "llm_routing", "model_name": "routetarget", "field_name": "model"},
            )
        assert answer.json()["results"][0]["text"] == "provider-0/model-0"
        return len(captured)

    fill(0, 2)
    few = queries()
    fill(2, 8)
    assert queries() == few


@pytest.mark.parametrize("model", LISTS[:4])
def test_forms_and_histories_open(operator, url, model):
    fill(0, 1)
    for page in ("add", "changes"):
        assert operator.get(url(model, page)).status_code == 200
    row = _first(model)
    for page in ("change", "history", "delete"):
        assert operator.get(url(model, page, row.pk)).status_code == 200
    assert operator.get(url(model, "history", 999_999)).status_code == 404


def _first(name):
    from django.apps import apps

    return apps.get_model("llm_routing", name).objects.first()


@pytest.mark.parametrize("model", LISTS[:4])
def test_every_field_of_a_form_explains_itself(operator, url, model):
    fill(0, 1)
    form = operator.get(url(model, "change", _first(model).pk)).context["adminform"].form
    assert [
        name
        for name, field in form.fields.items()
        if not (field.help_text or field.widget.is_hidden)
    ] == []


class TestStatusAtAGlance:
    def text(self, operator, url, model, **query):
        return operator.get(url(model), query).content.decode()

    def test_a_provider_without_a_key(self, operator, url):
        rows.model()
        assert "No key" in self.text(operator, url, "provider")

    def test_a_provider_with_a_key_in_the_environment(self, operator, url, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-indeed")
        rows.model()
        page = self.text(operator, url, "provider")
        assert "Ready" in page
        assert "OPENAI_API_KEY" in page
        assert "sk-very" not in page

    def test_a_provider_with_a_stored_key_and_no_models(self, operator, url):
        provider = rows.provider()
        provider.set_api_key("sk-very-secret-indeed")
        provider.save()
        page = self.text(operator, url, "provider")
        assert "No models" in page
        assert "Stored" in page

    def test_a_provider_with_an_undecryptable_key_is_shown(self, operator, url, settings):
        provider = rows.provider()
        provider.set_api_key("sk-very-secret-indeed")
        provider.save()
        client, address = operator, url("provider")
        settings.SECRET_KEY = "another"
        client.force_login(client.user)
        assert "Cannot be read" in client.get(address).content.decode()

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ({"is_active": False}, "Off"),
            ({"vendor": "acme"}, "Unknown vendor"),
            ({"vendor": "ollama"}, "Address not allowed"),
            ({"vendor": "sandbox"}, "Address not allowed"),
            ({"vendor": "ollama"}, "None needed"),
            ({"vendor": "openai"}, "Missing"),
        ],
    )
    def test_a_provider_that_cannot_be_used(self, operator, url, values, text):
        rows.provider(**values)
        assert text in self.text(operator, url, "provider")

    def test_a_model_shows_alias_and_special_capabilities(self, operator, url):
        rows.model(alias="quick", capabilities=["chat", "streaming", "tools", "vision"])
        page = self.text(operator, url, "modelconfig")
        assert "quick</span>" in page
        assert '<td class="field-abilities">Tools, Images</td>' in page

    def test_a_model_without_a_price(self, operator, url):
        rows.model()
        assert "No price" in self.text(operator, url, "modelconfig")

    def test_a_model_with_prices(self, operator, url):
        rows.model(input_price="0.25", output_price="10")
        assert "0.25 / 10" in self.text(operator, url, "modelconfig")

    def test_a_model_that_cannot_be_reached(self, operator, url):
        rows.model("a", is_active=False)
        rows.provider("off", is_active=False)
        rows.model("b", of="off")
        page = self.text(operator, url, "modelconfig")
        assert "Off</span>" in page
        assert "Provider off" in page

    @pytest.mark.parametrize(
        ("window", "text"), [(None, "—"), (512, "512"), (128_000, "128k"), (1_047_576, "1.05M")]
    )
    def test_a_context_window_is_said_briefly(self, operator, url, window, text):
        rows.model(context_window=window)
        page = self.text(operator, url, "modelconfig")
        assert f'<td class="field-context">{text}</td>' in page

    def test_a_route_names_the_targets_it_can_reach_and_counts_the_others(self, operator, url):
        rows.route("debugging", rows.model("here"), rows.model("gone", is_active=False))
        page = self.text(operator, url, "usecaseroute")
        assert "<b>0</b> openai/here</li>" in page
        assert "1 inactive" in page
        assert "openai/gone" not in page

    def test_a_route_with_targets_on_two_providers(self, operator, url):
        rows.route("debugging", rows.model("a"), rows.model("b", of="other"))
        page = self.text(operator, url, "usecaseroute")
        assert "2 providers" in page
        assert "debugging:standard" in page

    @pytest.mark.parametrize(
        ("is_active", "on", "text"),
        [
            (True, [True], "One provider, no fallback"),
            (True, [False], "No target can serve it"),
            (True, [], "No target can serve it"),
            (False, [True], "Off</span>"),
        ],
    )
    def test_a_route_that_is_not_safe(self, operator, url, is_active, on, text):
        models = [rows.model(str(n), is_active=value) for n, value in enumerate(on)]
        rows.route("debugging", *models, is_active=is_active)
        assert text in self.text(operator, url, "usecaseroute")

    def test_a_status_has_text_and_a_symbol_beside_colour(self, operator, url):
        rows.model()
        assert '<span aria-hidden="true">✕</span> No key' in self.text(operator, url, "provider")


class TestFilters:
    def names(self, operator, url, **query):
        page = operator.get(url("modelconfig"), query)
        return {model.model_id for model in page.context["cl"].result_list}

    def test_models_are_filtered_by_capability(self, operator, url):
        rows.model("sees", capabilities=["chat", "vision"])
        rows.model("chats", capabilities=["chat"])
        assert self.names(operator, url, capability="vision") == {"sees"}
        assert self.names(operator, url, capability="nonsense") == {"sees", "chats"}

    def test_models_by_price(self, operator, url):
        rows.model("priced", input_price=1, output_price=1)
        rows.model("half", input_price=1)
        rows.model("free")
        assert self.names(operator, url, priced="yes") == {"priced"}
        assert self.names(operator, url, priced="no") == {"half", "free"}

    @pytest.mark.parametrize("query", ["gpt-5", "quick", "acme", "For people"])
    def test_models_are_searched_by_text(self, operator, url, query):
        rows.model("gpt-5", of="acme", alias="quick", display_name="For people")
        rows.model("other")
        assert self.names(operator, url, q=query) == {"gpt-5"}


class TestUsage:
    def test_records_cannot_be_added_changed_or_deleted(self, operator, url):
        record = rows.usage("1", NOW)
        assert operator.get(url("usagerecord", "add")).status_code == 403
        change = url("usagerecord", "change", record.pk)
        assert operator.get(change).status_code == 200
        assert operator.post(change, {"cost": "0"}).status_code == 403
        assert operator.post(url("usagerecord", "delete", record.pk)).status_code == 403
        deletion = {"action": "delete_selected", "_selected_action": [record.pk], "post": "yes"}
        operator.post(url("usagerecord"), deletion)
        assert UsageRecord.objects.exists()

    def test_a_huge_table_is_never_counted_whole(self, operator, url, monkeypatch):
        monkeypatch.setattr(BoundedPaginator, "most", 3)
        for n in range(5):
            rows.usage(str(n), NOW - timedelta(minutes=n))
        with CaptureQueriesContext(connection) as captured:
            page = operator.get(url("usagerecord"))
        assert page.context["cl"].result_count == 3
        assert "The newest 3 that match are listed" in page.content.decode()
        counts = [query["sql"] for query in captured if "COUNT(" in query["sql"]]
        assert counts
        assert all("LIMIT 3" in sql for sql in counts)

    def test_names_are_offered_from_small_tables(self, operator, url):
        rows.provider("acme")
        rows.route("debugging")
        ApiKey.objects.issue("key", tenant="tenant-a")
        rows.usage("1", NOW, tenant="tenant-a", provider="acme", use_case="debugging")
        rows.usage("2", NOW)
        with CaptureQueriesContext(connection) as captured:
            operator.get(url("usagerecord"))
        usage_queries = [q["sql"] for q in captured if "usagerecord" in q["sql"]]
        assert len(usage_queries) == 2, usage_queries
        for query in ({"tenant": "tenant-a"}, {"provider": "acme"}, {"use_case": "debugging"}):
            found = operator.get(url("usagerecord"), query).context["cl"].result_list
            assert [record.attempt_id for record in found] == ["1"]

    @pytest.mark.parametrize("query", ["1", "request-1"])
    def test_a_request_or_an_attempt_is_found_by_its_whole_id(self, operator, url, query):
        for attempt in ("1", "11"):
            rows.usage(attempt, NOW)
        found = operator.get(url("usagerecord"), {"q": query}).context["cl"].result_list
        assert [record.attempt_id for record in found] == ["1"]

    def test_a_usage_record_shows_its_outcome(self, operator, url):
        rows.usage(
            "1",
            NOW,
            outcome="failure",
            error_code="rate_limited",
            cost="0.0000126",
            input_tokens=10,
            output_tokens=20,
            is_estimated=True,
            attempt=2,
            latency_ms=1234.5,
            time_to_first_token_ms=99.9,
        )
        page = operator.get(url("usagerecord")).content.decode()
        for text in (
            "Failure: rate_limited",
            "openai/gpt (#2)",
            "~10 / ~20",
            "0.000013",
            "1234 ms (100)",
        ):
            assert text in page

    def test_health_checks_are_read_only_and_show_the_error(self, operator, url):
        HealthCheck.objects.create(provider="p", is_healthy=False, error_code="connect_timeout")
        HealthCheck.objects.create(provider="p", is_healthy=True, latency_ms=12.3)
        page = operator.get(url("healthcheck")).content.decode()
        assert "connect_timeout" in page
        assert "12 ms" in page
        assert operator.get(url("healthcheck", "add")).status_code == 403


def test_operator_input_is_escaped(operator, url):
    script = "<script>alert(1)</script>"
    model = rows.model(script, display_name=script, capabilities=[script])
    route = rows.route("debugging", model, system_prompt=script)
    ModelConfig.objects.update(display_name=script + "2")
    for page in (
        operator.get(url("modelconfig")),
        operator.get(url("usecaseroute")),
        operator.get(url("usecaseroute", "change", route.pk)),
        operator.get(url("usecaseroute", "history", route.pk)),
        operator.get(url("modelconfig", "changes")),
    ):
        assert script not in page.content.decode()
        assert "&lt;script&gt;" in page.content.decode()
