"""Threads: the ids of answers determine the target of the next turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_routing.core.errors import ThreadNotFound, ThreadUnsupported
from llm_routing.core.planner import RoutePlan
from llm_routing.core.quirks import Quirks
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.threads import ThreadIds
from llm_routing.core.types import LLMRequest, Thread

SECRET = b"s" * 32
IDS = ThreadIds(SECRET, "acme")


def target(provider: str, *, holds: bool) -> Target:
    spec = ProviderSpec(provider, provider, "f", "http://x", quirks=Quirks(holds_threads=holds))
    return Target(spec, ModelSpec(provider, "m/1"))


CLAUDE, OTHER, PLAIN = (
    target("claude", holds=True),
    target("other", holds=True),
    target("plain", holds=False),
)
PLAN = RoutePlan((OTHER, PLAIN, CLAUDE))


def asking(previous: str | None) -> LLMRequest:
    return LLMRequest((), thread=Thread(previous))


def test_a_request_that_starts_a_thread_or_has_none_keeps_its_plan() -> None:
    for request in (asking(None), LLMRequest(())):
        assert IDS.follow(PLAN, request) == (PLAN, request)


def test_a_thread_continues_only_at_its_target_with_the_vendors_id() -> None:
    sealed = IDS.sealed("msg_1", CLAUDE)
    assert sealed.startswith("msg_1")
    assert IDS.sealed(sealed, OTHER) == sealed
    plan, request = ThreadIds(SECRET, "acme").follow(PLAN, asking(sealed))
    assert plan == replace(PLAN, targets=(CLAUDE,))
    assert request.thread == Thread("msg_1")


def test_without_a_target_that_supports_threads_it_is_unsupported() -> None:
    for previous in ("msg_1", IDS.sealed("msg_1", CLAUDE)):
        with pytest.raises(ThreadUnsupported):
            IDS.follow(RoutePlan((PLAIN,)), asking(previous))


def test_continuing_an_answer_of_a_vendor_without_threads_is_unsupported() -> None:
    with pytest.raises(ThreadUnsupported):
        IDS.follow(PLAN, asking(IDS.sealed("msg_1", PLAIN)))


def test_a_thread_whose_target_left_the_route_is_not_found() -> None:
    with pytest.raises(ThreadNotFound):
        IDS.follow(RoutePlan((OTHER,)), asking(IDS.sealed("msg_1", CLAUDE)))


@given(
    st.text(max_size=40)
    | st.sampled_from(
        [
            ThreadIds(SECRET, "evil").sealed("msg_1", CLAUDE),
            ThreadIds(b"other" * 8, "acme").sealed("msg_1", CLAUDE),
            IDS.sealed("msg_1", CLAUDE) + "00",
            IDS.sealed("msg_1", CLAUDE)[:-2],
            IDS.sealed("msg_1", CLAUDE).replace("msg_1", "msg_2"),
            "\ud83d_thr_" + "0" * 32,
            "msg_1_thr_\ud83d",
            "msg_1_thr_",
        ]
    )
)
def test_an_id_issued_to_another_tenant_is_not_found(previous: str) -> None:
    with pytest.raises(ThreadNotFound):
        IDS.follow(PLAN, asking(previous))
