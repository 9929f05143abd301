"""Two operators edit one row; routes without targets; the order in which targets are typed."""

import re

import pytest

from llm_routing.models import ModelConfig, Provider, RouteTarget, UseCaseRoute
from tests import rows

from .test_changes import route_form
from .test_secrets import form_of


def opened(client, address):
    """The mark of a form that was opened just now, as the browser sends it back."""
    page = client.get(address).content.decode()
    (mark,) = re.findall(r'<input type="hidden" name="seen" value="([0-9-]+)"', page)
    return mark


@pytest.fixture
def colleague(operator_with):
    return operator_with("change_usecaseroute", "change_routetarget", "change_provider")


class TestTwoOperators:
    def test_the_later_save_is_rejected_with_the_other_user_and_fields(
        self, operator, colleague, url
    ):
        row = rows.provider()
        address = url("provider", "change", row.pk)
        seen = opened(operator, address)
        assert colleague.post(address, form_of(row, priority="7")).status_code == 302
        answer = operator.post(address, form_of(row, notes="mine", seen=seen))
        text = answer.content.decode()
        assert answer.status_code == 200
        assert f"{colleague.user} changed provider openai" in text
        assert "Priority: 100 → 7" in text
        assert "mine" in text
        row.refresh_from_db()
        assert (row.priority, row.notes) == (7, "")

    def test_saving_again_overwrites_knowingly(self, operator, colleague, url):
        row = rows.provider()
        address = url("provider", "change", row.pk)
        seen = opened(operator, address)
        colleague.post(address, form_of(row, priority="7"))
        refused = operator.post(address, form_of(row, notes="mine", seen=seen))
        (newer,) = re.findall(r'name="seen" value="([0-9-]+)"', refused.content.decode())
        assert newer != seen
        assert operator.post(address, form_of(row, notes="mine", seen=newer)).status_code == 302
        assert Provider.objects.get().notes == "mine"

    def test_a_change_of_a_target_counts_as_one_of_its_route(self, operator, colleague, url):
        model = rows.model()
        route = rows.route("translation", model)
        target = route.targets.get()
        address = url("usecaseroute", "change", route.pk)
        seen = opened(operator, address)
        changed = route_form(route, [(target, 0, model, 9)])
        assert colleague.post(address, changed).status_code == 302
        late = route_form(route, [(target, 3, model, 1)], seen=seen)
        assert "changed target" in operator.post(address, late).content.decode()
        assert RouteTarget.objects.get().weight == 9

    def test_a_save_without_a_conflict_does_not_record_the_mark(self, operator, url):
        row = rows.provider()
        address = url("provider", "change", row.pk)
        seen = opened(operator, address)
        assert operator.post(address, form_of(row, notes="mine", seen=seen)).status_code == 302
        page = operator.get(url("provider", "history", row.pk)).content.decode()
        assert "Notes" in page
        assert "Seen" not in page


class TestTargets:
    def test_an_active_route_without_a_target_is_refused(self, operator, url):
        answer = operator.post(url("usecaseroute", "add"), route_form())
        assert "A route needs a target" in answer.content.decode()
        assert not UseCaseRoute.objects.exists()
        off = route_form()
        del off["is_active"]
        assert operator.post(url("usecaseroute", "add"), off).status_code == 302

    def test_the_last_target_of_an_active_route_is_not_removed(self, operator, url):
        model = rows.model()
        route = rows.route("translation", model)
        data = route_form(route, [(route.targets.get(), 0, model, 1)])
        data["targets-0-DELETE"] = "on"
        answer = operator.post(url("usecaseroute", "change", route.pk), data)
        assert "A route needs a target" in answer.content.decode()
        assert route.targets.count() == 1

    def test_targets_are_tried_in_the_order_in_which_they_were_typed(self, operator, url):
        models = [rows.model(name) for name in ("a", "b", "c")]
        data = route_form(None, [(None, "", model, 1) for model in models])
        assert operator.post(url("usecaseroute", "add"), data).status_code == 302
        found = RouteTarget.objects.order_by("position").values_list("model__model_id", "position")
        assert list(found) == [("a", 0), ("b", 1), ("c", 2)]

    def test_a_new_target_is_appended(self, operator, url):
        first, second, third = (rows.model(name) for name in ("a", "b", "c"))
        route = rows.route("translation", first)
        kept = (route.targets.get(), 4, first, 1)
        data = route_form(route, [kept, (None, "", second, 1), (None, 4, third, 1)])
        assert operator.post(url("usecaseroute", "change", route.pk), data).status_code == 302
        assert sorted(route.targets.values_list("position", "model__model_id")) == [
            (4, "a"),
            (4, "c"),
            (5, "b"),
        ]

    def test_a_new_route_offers_a_line_for_its_first_target(self, operator, url):
        page = operator.get(url("usecaseroute", "add")).content.decode()
        assert 'name="targets-0-model"' in page
        assert 'placeholder="next"' in page


def test_a_model_keeps_its_mark_through_a_mistake(operator, url):
    model = rows.model()
    address = url("modelconfig", "change", model.pk)
    seen = opened(operator, address)
    answer = operator.post(address, {"model_id": "", "seen": seen})
    assert f'name="seen" value="{seen}"' in answer.content.decode()
    assert ModelConfig.objects.get().model_id == "gpt"
