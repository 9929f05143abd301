"""Nothing is changed without the permission for it, and nothing without a row of history."""

import pytest
from django.contrib.admin.models import LogEntry
from django.test import override_settings

from llm_routing.models import ApiKey, ModelConfig, Provider, RouteTarget, UseCaseRoute
from tests import rows


def run(client, url, model, action, *rows_):
    data = {"action": action, "_selected_action": [row.pk for row in rows_]}
    return client.post(url(model), data, follow=True)


def route_form(route=None, targets=(), **values):
    """Returns the form data of a route; `targets` are (row, position, model, weight)."""
    data = {
        "use_case": route.use_case if route else "translation",
        "tier": "standard",
        "stream_recovery": "error",
        "is_active": "on",
        "targets-TOTAL_FORMS": len(targets),
        "targets-INITIAL_FORMS": sum(1 for row, *_ in targets if row),
    }
    for n, (row, position, model, weight) in enumerate(targets):
        data |= {
            f"targets-{n}-id": row.pk if row else "",
            f"targets-{n}-route": route.pk if route else "",
            f"targets-{n}-position": position,
            f"targets-{n}-model": model.pk,
            f"targets-{n}-weight": weight,
        }
    return data | values


class TestActions:
    @pytest.mark.parametrize(
        ("model", "make"),
        [
            ("provider", rows.provider),
            ("modelconfig", rows.model),
            ("usecaseroute", rows.route),
        ],
    )
    def test_rows_are_switched_off_and_on_with_history_and_log(self, operator, url, model, make):
        row = make()
        assert "1 row changed" in run(operator, url, model, "deactivate", row).content.decode()
        row.refresh_from_db()
        assert not row.is_active
        run(operator, url, model, "activate", row)
        row.refresh_from_db()
        assert row.is_active
        newest, before, _made = row.history.all()
        assert (before.is_active, newest.is_active) == (False, True)
        assert newest.history_user == operator.user
        assert LogEntry.objects.latest("id").get_change_message() == "Switched on."

    def test_an_action_ignores_rows_that_already_have_the_value(self, operator, url):
        row = rows.provider()
        assert "0 rows changed" in run(operator, url, "provider", "activate", row).content.decode()
        assert row.history.count() == 1
        assert not LogEntry.objects.exists()

    def test_a_key_is_revoked_with_history_and_log(self, operator, url):
        key, _clear_text = ApiKey.objects.issue("key")
        run(operator, url, "apikey", "revoke", key)
        key.refresh_from_db()
        assert not key.is_active
        assert key.history.first().history_user == operator.user
        assert LogEntry.objects.get().get_change_message() == "Revoked."

    @pytest.mark.parametrize("action", ["activate", "deactivate"])
    def test_view_permission_does_not_allow_to_switch_rows(self, operator_with, url, action):
        row = rows.provider(is_active=action == "deactivate")
        run(operator_with("view_provider"), url, "provider", action, row)
        row.refresh_from_db()
        assert row.is_active is (action == "deactivate")
        assert row.history.count() == 1

    def test_view_and_add_permissions_do_not_allow_to_revoke_keys(self, operator_with, url):
        key, _clear_text = ApiKey.objects.issue("key")
        run(
            operator_with("view_apikey", "add_apikey", "delete_apikey"),
            url,
            "apikey",
            "revoke",
            key,
        )
        key.refresh_from_db()
        assert key.is_active

    def test_a_model_of_a_route_is_not_deleted(self, operator, url):
        model = rows.model()
        rows.route("debugging", model)
        answer = run(operator, url, "modelconfig", "delete_selected", model)
        assert "protected" in answer.content.decode()
        data = {"action": "delete_selected", "_selected_action": [model.pk], "post": "yes"}
        operator.post(url("modelconfig"), data)
        assert ModelConfig.objects.exists()

    def test_a_selection_deleted_is_on_record(self, operator, url):
        row = rows.provider()
        data = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
        operator.post(url("provider"), data)
        newest = Provider.history.first()
        assert (newest.history_type, newest.history_user) == ("-", operator.user)


class TestForms:
    def test_allowed_fields_are_check_boxes(self, operator, url):
        targets = [(None, 0, rows.model(), 1)]
        form = route_form(targets=targets, allowed_fields=["models", "server_tools"])
        page = operator.post(url("usecaseroute", "add"), form)
        assert page.status_code == 302, page.context["errors"]
        route = UseCaseRoute.objects.get(use_case="translation")
        assert route.allowed_fields == ["models", "server_tools"]
        form = route_form(route, allowed_fields=["everything"])
        page = operator.post(url("usecaseroute", "change", route.pk), form)
        assert page.status_code == 200
        route.refresh_from_db()
        assert route.allowed_fields == ["models", "server_tools"]

    def test_a_route_is_added_with_its_targets_in_order(self, operator, url):
        first, second = rows.model("a"), rows.model("b", of="other")
        data = route_form(targets=[(None, 1, second, 1), (None, 0, first, 3)])
        assert operator.post(url("usecaseroute", "add"), data).status_code == 302
        route = UseCaseRoute.objects.get(use_case="translation")
        assert [str(target) for target in route.targets.all()] == ["0: openai/a", "1: other/b"]
        assert route.history.get().history_user == operator.user
        assert {row.history_user for row in RouteTarget.history.all()} == {operator.user}

    def test_targets_change_places(self, operator, url):
        first, second = rows.model("a"), rows.model("b")
        route = rows.route("debugging", first, second)
        one, two = route.targets.all()
        data = route_form(route, [(one, 1, first, 1), (two, 0, second, 1)])
        assert operator.post(url("usecaseroute", "change", route.pk), data).status_code == 302
        assert [target.model_id for target in route.targets.all()] == [second.pk, first.pk]

    def test_the_same_model_twice_is_a_mistake(self, operator, url):
        model = rows.model()
        data = route_form(targets=[(None, 0, model, 1), (None, 1, model, 1)])
        answer = operator.post(url("usecaseroute", "add"), data)
        assert answer.status_code == 200
        assert not UseCaseRoute.objects.exists()

    def test_a_mistake_in_a_target_is_said_beside_it(self, operator, url):
        model = rows.model()
        route = rows.route("debugging", model)
        data = route_form(route, [(route.targets.get(), 0, model, 0)])
        answer = operator.post(url("usecaseroute", "change", route.pk), data)
        assert "greater than or equal to 1" in answer.content.decode()

    def test_capabilities_are_ticked(self, operator, url):
        data = {
            "provider": rows.provider().pk,
            "model_id": "gpt",
            "is_active": "on",
            "capabilities": ["chat", "vision"],
        }
        assert operator.post(url("modelconfig", "add"), data).status_code == 302
        model = ModelConfig.objects.get()
        assert model.capabilities == ["chat", "vision"]
        assert model.alias is None

    def test_no_capability_is_an_empty_list(self, operator, url):
        data = {"provider": rows.provider().pk, "model_id": "gpt"}
        operator.post(url("modelconfig", "add"), data)
        assert ModelConfig.objects.get().capabilities == []

    def test_a_private_base_url_is_refused_with_its_reason(self, operator, url):
        data = {"name": "a", "vendor": "vllm", "base_url": "http://10.0.0.1/v1", "priority": 1}
        answer = operator.post(url("provider", "add"), data)
        assert "LLM_ALLOWED_UPSTREAM_NETWORKS" in answer.content.decode()
        assert not Provider.objects.exists()

    @pytest.mark.parametrize("model", ["provider", "modelconfig", "usecaseroute", "apikey"])
    def test_the_history_needs_a_permission(self, operator_with, url, model):
        client = operator_with()
        for page in ("changelist", "add", "changes"):
            assert client.get(url(model, page)).status_code == 403


class TestHistory:
    def test_the_history_shows_user_time_old_and_new_values(self, operator, url):
        model = rows.model("gpt")
        route = rows.route("debugging", model)
        data = route_form(route, [(route.targets.get(), 2, model, 5)], temperature="0.5")
        operator.post(url("usecaseroute", "change", route.pk), data)
        page = operator.get(url("usecaseroute", "history", route.pk))
        changed = [entry for entry in page.context["entries"] if entry.action == "Changed"]
        assert {
            (entry.who, entry.subject, change.field, change.old, change.new)
            for entry in changed
            for change in entry.changes
        } == {
            ("ada", "route debugging / Standard", "Temperature", "—", "0.5"),
            ("ada", "target debugging:standard / openai/gpt", "Position", "0", "2"),
            ("ada", "target debugging:standard / openai/gpt", "Weight", "1", "5"),
        }

    def test_choices_switches_and_links_are_shown_as_text(self, operator, url):
        model = rows.model("gpt")
        route = rows.route("debugging")
        route.tier, route.is_active = "premium", False
        route.save()
        model.provider = rows.provider("other")
        model.save()
        route_page = operator.get(url("usecaseroute", "history", route.pk))
        changes = route_page.context["entries"][0].changes
        assert {(change.old, change.new) for change in changes} == {
            ("Standard", "Premium"),
            ("yes", "no"),
        }
        model_page = operator.get(url("modelconfig", "history", model.pk))
        [change] = model_page.context["entries"][0].changes
        assert (change.field, change.old, change.new) == ("Provider", "openai", "other")

    def test_the_page_of_all_changes_includes_deleted_rows(self, operator, url):
        model = rows.model("gpt")
        rows.route("debugging", model).delete()
        model.provider.delete()
        page = operator.get(url("modelconfig", "changes"))
        actions = [(entry.action, entry.subject) for entry in page.context["entries"]]
        gone = f"model #{model.provider_id}, deleted / gpt"
        assert actions == [("Deleted", gone), ("Created", gone)]

    def test_only_the_newest_changes_are_listed_with_a_note(self, operator, url, monkeypatch):
        from llm_routing.admin.history import Timeline

        monkeypatch.setattr(Timeline, "most", 2)
        for n in range(3):
            rows.provider(str(n))
        page = operator.get(url("provider", "changes"))
        assert [entry.subject for entry in page.context["entries"]] == ["provider 2", "provider 1"]
        assert "Older changes" in page.content.decode()

    def test_the_oldest_one_listed_is_compared_with_the_one_before(
        self, operator, url, monkeypatch
    ):
        from llm_routing.admin.history import Timeline

        monkeypatch.setattr(Timeline, "most", 1)
        row = rows.provider()
        for notes in ("a", "b", "c"):
            Provider.objects.update(notes=notes)
        [entry] = operator.get(url("provider", "history", row.pk)).context["entries"]
        assert [(change.old, change.new) for change in entry.changes] == [("b", "c")]

    def test_a_long_text_is_cut(self, operator, url):
        row = rows.route()
        UseCaseRoute.objects.update(system_prompt="long " * 1000)
        entry = operator.get(url("usecaseroute", "history", row.pk)).context["entries"][0]
        assert len(entry.changes[0].new) == 300

    def test_a_change_by_a_program_shows_its_reason_and_no_user(self, operator, url):
        row = rows.provider()
        vars(row)["_change_reason"] = "set up"
        row.save()
        page = operator.get(url("provider", "history", row.pk))
        entry = page.context["entries"][0]
        assert (entry.who, entry.reason) == ("", "set up")
        assert "set up" in page.content.decode()

    def test_it_needs_the_permission_to_look(self, operator_with, url):
        row = rows.provider()
        client = operator_with("view_modelconfig")
        assert client.get(url("provider", "history", row.pk)).status_code == 403

    def test_it_works_without_the_middleware_of_simple_history(self, operator, url, settings):
        middleware = [name for name in settings.MIDDLEWARE if "simple_history" not in name]
        with override_settings(MIDDLEWARE=middleware):
            operator.post(url("apikey", "add"), {"name": "key", "tenant": "default"})
        assert ApiKey.history.get().history_user == operator.user

    def test_it_needs_simple_history_neither_as_an_app_nor_as_middleware(
        self, operator, url, settings
    ):
        row = rows.provider()
        apps = [name for name in settings.INSTALLED_APPS if name != "simple_history"]
        middleware = [name for name in settings.MIDDLEWARE if "simple_history" not in name]
        with override_settings(INSTALLED_APPS=apps, MIDDLEWARE=middleware):
            run(operator, url, "provider", "deactivate", row)
            page = operator.get(url("provider", "history", row.pk))
        assert page.status_code == 200
        assert page.context["entries"][0].who == "ada"
