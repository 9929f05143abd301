"""The targets of a route, their order, and the route's defaults."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.capabilities import Capability
from llm_routing.core.content import (
    AnswerFormat,
    ForeignTool,
    ImagePart,
    Message,
    Part,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolResultPart,
)
from llm_routing.core.errors import InvalidRequest, NoTargetAvailable
from llm_routing.core.planner import (
    Address,
    buffers_stream,
    has_system_message,
    plan,
    required_capabilities,
    with_route_defaults,
)
from llm_routing.core.routing_table import (
    ModelSpec,
    ProviderSpec,
    RouteSpec,
    RoutingTable,
    StreamRecovery,
    TargetSpec,
)
from llm_routing.core.types import LLMRequest

HELLO = Message(Role.USER, (TextPart("Hello"),))
IMAGE = ImagePart(url="https://x.test/cat.png")


def table(targets: list[TargetSpec], **capabilities: str) -> RoutingTable:
    """Returns a table with one route; the values are the capabilities of the models `p/…`."""
    models = {
        f"p/{name}": ModelSpec("p", name, capabilities=frozenset(words.split()))
        for name, words in capabilities.items()
    }
    route = RouteSpec("u", "standard", tuple(targets))
    return RoutingTable(
        1, {"p": ProviderSpec("p", "v", "f", "https://x.test")}, models, {"u:standard": route}
    )


def order(
    routes: RoutingTable,
    rng: Random,
    operation: str = Capability.CHAT,
    needs: frozenset[str] = frozenset(),
) -> str:
    """Returns the models in the order in which they are tried, as one word."""
    found = plan(
        routes, Address(use_case="u"), operation=operation, needs=needs, default=Address(), rng=rng
    )
    assert found.route is routes.routes["u:standard"]
    return "".join(target.model.model_id for target in found.targets)


def test_positions_take_precedence_over_weights_and_row_order() -> None:
    routes = table(
        [TargetSpec("p/c", 9, 1000), TargetSpec("p/a", 0, 1), TargetSpec("p/b", 1, 1000)],
        a="chat",
        b="chat",
        c="chat",
    )
    assert {order(routes, Random(seed)) for seed in range(20)} == {"abc"}


def test_weights_divide_the_requests_of_a_position() -> None:
    routes = table(
        [TargetSpec("p/a", 0, 6), TargetSpec("p/b", 0, 3), TargetSpec("p/c", 0, 1)],
        a="chat",
        b="chat",
        c="chat",
    )
    rng = Random(5)
    orders = Counter(order(routes, rng) for _ in range(20_000))
    # Drawn without replacement: 6/10, then 3/4 or 1/4 of what is left, and so on.
    expected = {
        "abc": 0.6 * 3 / 4,
        "acb": 0.6 * 1 / 4,
        "bac": 0.3 * 6 / 7,
        "bca": 0.3 * 1 / 7,
        "cab": 0.1 * 6 / 9,
        "cba": 0.1 * 3 / 9,
    }
    assert orders.keys() == expected.keys()
    for each, share in expected.items():
        assert orders[each] / 20_000 == pytest.approx(share, abs=0.015)


def test_within_a_position_the_provider_with_the_lower_priority_number_comes_first() -> None:
    providers = {
        name: ProviderSpec(name, "v", "f", "https://x.test", priority=priority)
        for name, priority in (("late", 200), ("early", 50), ("peer", 50))
    }
    models = {f"{name}/m": ModelSpec(name, "m") for name in providers}
    targets = (TargetSpec("late/m", 0, 1000), TargetSpec("early/m", 0), TargetSpec("peer/m", 0))
    route = RouteSpec("u", "standard", targets)
    routes = RoutingTable(1, providers, models, {"u:standard": route})
    seen = set()
    for seed in range(30):
        found = plan(
            routes, Address("u"), operation=Capability.CHAT, default=Address(), rng=Random(seed)
        )
        names = [target.provider.name for target in found.targets]
        assert names[2] == "late"
        seen.add(names[0])
    assert seen == {"early", "peer"}


def test_a_seed_makes_the_draw_repeatable() -> None:
    routes = table([TargetSpec("p/a"), TargetSpec("p/b")], a="chat", b="chat")
    draws = [[order(routes, rng) for _ in range(20)] for rng in (Random(3), Random(3))]
    assert draws[0] == draws[1]
    assert set(draws[0]) == {"ab", "ba"}


SPECS = st.builds(
    TargetSpec,
    st.sampled_from(["p/a", "p/b", "p/c", "p/d", "p/absent"]),
    st.integers(0, 2),
    st.integers(1, 5),
)


@given(st.lists(SPECS, unique_by=lambda spec: spec.model), st.randoms(use_true_random=False))
def test_every_active_target_is_tried_once_and_positions_never_descend(
    specs: list[TargetSpec], rng: Random
) -> None:
    routes = table(specs, a="chat", b="chat", c="chat", d="chat")
    present = {spec.model[2:]: spec.position for spec in specs if spec.model != "p/absent"}
    if not present:
        with pytest.raises(NoTargetAvailable):
            order(routes, rng)
        return
    models = order(routes, rng)
    assert sorted(models) == sorted(present)
    positions = [present[model] for model in models]
    assert positions == sorted(positions)


def test_a_target_that_cannot_do_the_operation_is_left_out() -> None:
    routes = table(
        [TargetSpec("p/a", 0), TargetSpec("p/b", 1), TargetSpec("p/c", 2)],
        a="embeddings",
        b="chat",
        c="",  # says nothing: believed
    )
    assert order(routes, Random(0)) == "bc"
    assert order(routes, Random(0), Capability.EMBEDDINGS) == "ac"


def test_a_route_without_a_target_for_the_operation_raises_invalid_request() -> None:
    routes = table([TargetSpec("p/a")], a="chat")
    with pytest.raises(InvalidRequest, match="No target of the route u:standard offers embeddings"):
        order(routes, Random(0), Capability.EMBEDDINGS)
    with pytest.raises(NoTargetAvailable, match="The route u:standard has no active target"):
        order(table([]), Random(0))


def test_targets_that_lack_a_capability_come_last_in_order() -> None:
    routes = table(
        [TargetSpec(f"p/{name}", position) for position, name in enumerate("abcd")],
        a="chat",
        b="chat vision tools",
        c="chat tools",
        d="chat tools vision",
    )
    needs = frozenset({"tools", "vision"})
    # Targets that lack more capabilities do not come later.
    assert order(routes, Random(0), needs=needs) == "bdac"
    assert order(routes, Random(0)) == "abcd"


def message(*parts: Part) -> Message:
    return Message(Role.USER, parts)


@pytest.mark.parametrize(
    ("request_", "needs"),
    [
        (LLMRequest((HELLO,)), set()),
        (LLMRequest((HELLO,), tools=(Tool("f"),)), {"tools"}),
        (LLMRequest((HELLO,), tools=(ForeignTool("x", {}),)), {"tools"}),
        (
            LLMRequest((HELLO,), response_format=ResponseFormat(AnswerFormat.JSON_SCHEMA)),
            {"json_schema"},
        ),
        (LLMRequest((HELLO,), response_format=ResponseFormat(AnswerFormat.JSON_OBJECT)), set()),
        (LLMRequest((HELLO, message(TextPart("What is it?"), IMAGE))), {"vision"}),
        (LLMRequest((message(ToolResultPart("c", (TextPart("x"), IMAGE))),)), {"vision"}),
        (LLMRequest((message(ToolResultPart("c", (TextPart("x"),))),)), set()),
    ],
)
def test_required_capabilities_follow_from_the_request(
    request_: LLMRequest, needs: set[str]
) -> None:
    assert required_capabilities(request_) == needs


ROUTE = RouteSpec("u", "standard", (), system_prompt="Be kind.", temperature=0.2, max_tokens=100)
SILENT = LLMRequest((HELLO,))
SPOKEN = LLMRequest((HELLO,), system_prompt="", temperature=0.0, max_tokens=0)


def test_route_defaults_apply_to_fields_that_the_caller_did_not_set() -> None:
    request = with_route_defaults(SILENT, ROUTE)
    assert (request.system_prompt, request.temperature, request.max_tokens) == (
        "Be kind.",
        0.2,
        100,
    )
    assert request.messages == SILENT.messages


def test_values_of_the_caller_take_precedence_even_if_zero_or_empty() -> None:
    assert with_route_defaults(SPOKEN, ROUTE) == SPOKEN


def test_a_system_message_replaces_the_route_s_system_prompt() -> None:
    system = Message(Role.SYSTEM, (TextPart("Be brief."),))
    request = LLMRequest((HELLO, system))
    assert has_system_message(request)
    assert not has_system_message(SILENT)
    assert with_route_defaults(request, ROUTE).system_prompt is None


def test_a_route_without_defaults_or_no_route_changes_nothing() -> None:
    assert with_route_defaults(SILENT, RouteSpec("u", "standard", ())) == SILENT
    assert with_route_defaults(SILENT, None) is SILENT


@pytest.mark.parametrize("recovery", StreamRecovery)
def test_a_route_can_buffer_streams(recovery: StreamRecovery) -> None:
    known = table([TargetSpec("p/a")], a="chat")
    route = replace(known.routes["u:standard"], stream_recovery=recovery)
    known = replace(known, routes={"u:standard": route})
    is_held = recovery is StreamRecovery.BUFFER
    assert buffers_stream(known, Address(use_case="u"), Address()) is is_held
    assert buffers_stream(known, Address(), Address(use_case="u")) is is_held
    assert not buffers_stream(known, Address(model="p/a"), Address())
