"""A discovery over real sockets: added, marked and unchanged rows."""

from decimal import Decimal

import pytest

from llm_routing.discovery import UnknownProvider, fetch, request
from llm_routing.models import ConfigurationVersion, ModelConfig, Provider
from llm_routing.setup.configure import configure
from tests import rows

from .conftest import provider_at, run

pytestmark = pytest.mark.django_db


def vanished() -> set[str]:
    return set(ModelConfig.objects.exclude(vanished_at=None).values_list("model_id", flat=True))


class TestNewModels:
    def test_new_models_are_added_inactive_with_known_facts(self, provider, vendor):
        vendor.lists("gpt-6.1-sol", "acme-unheard-of", "text-embedding-3-small")
        (report,) = run().providers
        assert report.added == ("gpt-6.1-sol", "acme-unheard-of", "text-embedding-3-small")
        assert report.models == report.added
        known, unknown = (
            ModelConfig.objects.get(model_id=name) for name in ("gpt-6.1-sol", "acme-unheard-of")
        )
        assert not known.is_active
        assert (known.input_price, known.context_window) == (Decimal(2), 1_050_000)
        assert (unknown.input_price, unknown.context_window) == (None, None)
        assert unknown.capabilities == ["chat", "streaming"]
        for row in ModelConfig.objects.all():
            row.full_clean()

    def test_a_second_run_changes_nothing(self, provider, vendor):
        vendor.lists("a", "b")
        run()
        version = ConfigurationVersion.objects.current("routing")
        report = run()
        assert not any(map(report.count, ("added", "vanished", "returned")))
        assert ConfigurationVersion.objects.current("routing") == version

    def test_the_history_names_discovery(self, provider, vendor):
        vendor.lists("a")
        run()
        assert ModelConfig.history.get().history_change_reason == "llm_discover_models"

    def test_a_row_that_is_there_is_not_touched(self, provider, vendor):
        row = rows.model("gpt-6.1-sol", of="acme", input_price="99", alias="best")
        before = ModelConfig.objects.filter(pk=row.pk).values().get()
        vendor.lists("gpt-6.1-sol")
        assert run().count("added") == 0
        assert ModelConfig.objects.filter(pk=row.pk).values().get() == before

    def test_removed_or_renamed_models_are_not_added_again(self, provider, vendor):
        rows.model("removed", of="acme").delete()
        renamed = rows.model("old", of="acme")
        renamed.model_id = "new"
        renamed.save()
        vendor.lists("removed", "old", "new", "fresh")
        (report,) = run().providers
        assert report.added == ("fresh",)
        assert report.left_alone == ("removed", "old")

    def test_setup_keeps_discovered_models(self, provider, vendor):
        vendor.lists("a")
        run()
        configure(environ={})
        row = ModelConfig.objects.get(model_id="a")
        assert not row.is_active

    def test_many_are_added_at_once(self, provider, vendor):
        vendor.lists(*(f"m-{n}" for n in range(2500)))
        assert run().count("added") == 2500
        assert ModelConfig.objects.count() == 2500


def test_an_address_that_lacks_its_path_gets_a_hint(provider, vendor):
    Provider.objects.filter(pk=provider.pk).update(base_url=vendor.url)
    (report,) = run().providers
    assert "ends with /v1" in report.message


class TestVanishedModels:
    def test_are_marked_and_stay_in_use(self, provider, vendor):
        rows.model("gone", of="acme")
        rows.model("here", of="acme")
        vendor.lists("here")
        (report,) = run().providers
        assert report.vanished == ("gone",)
        gone = ModelConfig.objects.get(model_id="gone")
        assert gone.is_active
        assert gone.vanished_at is not None
        assert run().count("vanished") == 0
        assert ModelConfig.objects.get(model_id="gone").vanished_at == gone.vanished_at

    def test_are_unmarked_when_they_come_back(self, provider, vendor):
        rows.model("a", of="acme")
        vendor.lists("b")
        run()
        vendor.lists("a", "b")
        (report,) = run().providers
        assert report.returned == ("a",)
        assert vanished() == set()

    def test_a_mark_is_no_edit(self, vendor):
        configure(environ={"OPENAI_API_KEY": "k"})
        Provider.objects.filter(name="openai").update(base_url=f"{vendor.url}/v1", encrypted_key="")
        entries = ModelConfig.history.count()
        version = ConfigurationVersion.objects.current("routing")
        row = Provider.objects.get(name="openai")
        row.set_api_key("k-e-y")
        row.save()
        vendor.lists("gpt-6-luna")
        run("openai")
        assert "gpt-6-astra" in vanished()
        assert ModelConfig.history.count() == entries
        assert ConfigurationVersion.objects.current("routing") == version + 1  # the key

    @pytest.mark.parametrize(
        "answer",
        [
            {"object": "list", "data": []},
            {"object": "list", "data": None},
            [],
            {"data": [{"id": ""}]},
            {"error": {"message": "no"}},
            b"<html>maintenance</html>",
            b"",
            b'{"data": [{"id": "he',
        ],
        ids=["empty", "null", "bare", "nameless", "error", "html", "nothing", "cut"],
    )
    def test_an_invalid_list_changes_nothing(self, provider, vendor, answer):
        rows.model("here", of="acme")
        vendor.says(answer)
        (failed,) = run().failed
        assert failed.error == "malformed_answer"
        assert vanished() == set()

    @pytest.mark.parametrize(
        "answer",
        [
            {"data": [{"id": "new"}, {"id": "a b"}]},
            {"data": [{"id": "new"}], "has_more": True},
            {"data": [{"id": "new"}], "total": 4000},
        ],
        ids=["unreadable", "has more", "total"],
    )
    def test_a_list_that_is_not_whole_adds_and_marks_nothing(self, provider, vendor, answer):
        rows.model("here", of="acme")
        vendor.says(answer)
        (report,) = run().providers
        assert (report.added, report.vanished, report.is_complete) == (("new",), (), False)
        assert vanished() == set()

    def test_only_models_of_the_selected_provider_are_marked(self, provider, vendor):
        rows.model("elsewhere", of="other")
        Provider.objects.filter(name="other").update(is_active=False)
        vendor.lists("a")
        run()
        assert vanished() == set()


class TestPages:
    def says(self, vendor, after, ids, **more):
        path = "/v1/models?limit=1000" + (f"&after_id={after}" if after else "")
        data = [{"type": "model", "id": name, "display_name": name.title()} for name in ids]
        vendor.says({"data": data, "has_more": False, "last_id": ids[-1], **more}, path)

    def test_anthropics_pages_are_turned(self, db, vendor):
        provider_at(vendor, vendor="anthropic", base_url=vendor.url)
        self.says(vendor, "", ["claude-a", "claude-b"], has_more=True)
        self.says(vendor, "claude-b", ["claude-c"])
        (report,) = run().providers
        assert report.models == ("claude-a", "claude-b", "claude-c")
        assert report.is_complete
        _, headers = vendor.requests[0]
        assert headers["x-api-key"] == "key-of-the-tests"
        assert headers["anthropic-version"] == "2023-06-01"

    def test_a_page_that_leads_to_itself_ends(self, db, vendor):
        provider_at(vendor, vendor="anthropic", base_url=vendor.url)
        self.says(vendor, "", ["claude-a"], has_more=True)
        self.says(vendor, "claude-a", ["claude-a"], has_more=True)
        (report,) = run().providers
        assert (report.models, report.is_complete) == (("claude-a",), False)
        assert len(vendor.requests) == 2

    def test_pages_without_end_end(self, db, vendor, monkeypatch):
        monkeypatch.setattr(fetch, "MAX_PAGES", 3)
        provider_at(vendor, vendor="anthropic", base_url=vendor.url)
        self.says(vendor, "", ["claude-0"], has_more=True)
        for n in range(9):
            self.says(vendor, f"claude-{n}", [f"claude-{n + 1}"], has_more=True)
        (report,) = run().providers
        assert (len(report.models), report.is_complete) == (3, False)


class TestFailures:
    @pytest.mark.parametrize(
        ("reply", "code"),
        [
            ({"status": 401}, "credential_rejected"),
            ({"status": 404}, "malformed_answer"),
            ({"status": 429}, "rate_limited"),
            ({"status": 500}, "server_failed"),
            ({"status": 302, "headers": {"Location": "/elsewhere"}}, "malformed_answer"),
        ],
    )
    def test_have_their_code_and_mark_nothing(self, provider, vendor, reply, code):
        rows.model("here", of="acme")
        vendor.says({"error": {"message": "sorry"}}, **reply)
        vendor.says({"data": [{"id": "trap"}]}, "/elsewhere")
        (failed,) = run().failed
        assert failed.error == code
        assert failed.message
        assert not ModelConfig.objects.filter(model_id="trap").exists()
        assert vanished() == set()

    def test_one_provider_stops_no_other(self, provider, vendor):
        provider_at(vendor, "nowhere", base_url="http://127.0.0.1:9/v1")
        vendor.lists("a")
        report = run()
        assert [row.provider for row in report.failed] == ["nowhere"]
        assert report.models == {"acme": ("a",)}

    def test_without_a_key_no_request_is_sent(self, db, vendor):
        Provider.objects.create(name="acme", vendor="openai", base_url=f"{vendor.url}/v1")
        (failed,) = run().failed
        assert failed.error == "credential_rejected"
        assert vendor.requests == []

    def test_an_address_that_settings_do_not_allow_is_not_connected_to(
        self, provider, vendor, settings
    ):
        settings.LLM_ROUTING = {"ALLOWED_UPSTREAM_NETWORKS": ()}
        (failed,) = run().failed
        assert failed.error == "address_forbidden"
        assert vendor.requests == []

    def test_an_endless_body_is_not_read(self, provider, vendor, monkeypatch):
        monkeypatch.setattr(request, "MAX_BYTES", 1000)
        vendor.lists(*(f"m-{n}" for n in range(100)))
        assert run().failed[0].error == "answer_too_large"

    def test_a_silent_provider_is_not_waited_for(self, provider, vendor, monkeypatch):
        monkeypatch.setattr(fetch, "TIME_LIMIT", 0.2)
        vendor.says({}, holds=True)
        assert run().failed[0].error == "upstream_timeout"

    def test_an_unknown_vendor_is_reported(self, db):
        Provider.objects.create(name="odd", vendor="acme")
        (failed,) = run().failed
        assert failed.provider == "odd"

    def test_no_key_is_in_a_report(self, provider, vendor):
        vendor.says(
            {"error": {"message": "Incorrect API key provided: sk-abcdefgh12345678."}}, status=401
        )
        report = run()
        assert "sk-abcdefgh12345678" not in str(report.as_json())
        assert "key-of-the-tests" not in str(report.as_json())


class TestChoice:
    def test_inactive_providers_are_queried_only_by_name(self, provider, vendor):
        Provider.objects.update(is_active=False)
        vendor.lists("a")
        assert run().providers == ()
        assert run("acme").count("added") == 1

    def test_an_unknown_name_is_refused(self, provider):
        with pytest.raises(UnknownProvider, match="acme"):
            run("acmee")


def test_a_dry_run_says_the_same_and_writes_nothing(provider, vendor):
    rows.model("gone", of="acme")
    vendor.lists("a")
    would = run(dry_run=True)
    assert would.is_dry_run
    assert not ModelConfig.objects.filter(model_id="a").exists()
    assert vanished() == set()
    assert run().providers == would.providers
