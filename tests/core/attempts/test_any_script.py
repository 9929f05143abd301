"""Property test: whatever providers do, budgets hold, every attempt is settled and every response
closed."""

import asyncio
from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_routing.core.attempts.stream import TAIL_SECONDS
from llm_routing.core.errors import (
    ERRORS_BY_CODE,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    LLMError,
    RateLimited,
    RoutingError,
    TLSFailed,
    UpstreamError,
)
from llm_routing.core.routing_table import StreamRecovery
from llm_routing.core.types import AttemptOutcome
from tests.core.fakes import Reply, World, call, failing, plan_for, target, with_prefill
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

PROVIDERS = "abcdef"
ERROR = StreamRecovery.ERROR
FAILURES = st.sampled_from(
    [
        ConnectionFailed("x"),
        ConnectionLost("x"),
        ConnectTimeout("x"),
        RateLimited("x", retry_after=9),
        TLSFailed("x"),
    ]
)
SECONDS = st.floats(0, 30)
WHOLE = b"text:Hello\nfinish\nend"
CHUNKS = st.lists(
    st.sampled_from([b"start\n", b"text:Hi\n", b"usage:3,4\n", b"error\n", b"bug", b"end", WHOLE])
    | SECONDS
    | FAILURES,
    max_size=6,
)
REPLIES = st.builds(
    Reply,
    CHUNKS,
    st.sampled_from([200, 200, 200, 400, 403, 413, 429, 500]),
    st.sampled_from([{}, {"retry-after": "3"}, {"retry-after": "1000"}]),
    SECONDS,
) | st.builds(failing, FAILURES)
GOOD = Reply((WHOLE,))
BAD = failing(ConnectionFailed("x"))


@settings(max_examples=200)
@given(
    count=st.integers(1, len(PROVIDERS)),
    first=st.lists(REPLIES, min_size=6, max_size=6),
    second=st.lists(REPLIES, min_size=6, max_size=6),
    missing=st.sets(st.sampled_from(PROVIDERS)),
    unsupported=st.frozensets(st.sampled_from(PROVIDERS)),
    seconds=st.floats(-1, 100),
    streaming=st.booleans(),
    leaves_after=st.none() | st.floats(0, 100),
    retries=st.integers(0, 3),
    recovery=st.sampled_from(StreamRecovery),
    usual=st.none() | st.floats(0, 10),
)
@example(6, [BAD] * 6, [GOOD] * 6, {"a", "b"}, frozenset("c"), 100.0, False, None, 3, ERROR, None)
@example(1, [BAD] * 6, [GOOD] * 6, set(), frozenset(), 100.0, True, None, 3, ERROR, None)
@in_virtual_time
async def test_budgets_and_records_hold_for_any_sequence_of_outcomes(
    count: int,
    first: list[Reply],
    second: list[Reply],
    missing: set[str],
    unsupported: frozenset[str],
    seconds: float,
    streaming: bool,
    leaves_after: float | None,
    retries: int,
    recovery: StreamRecovery,
    usual: float | None,
) -> None:
    world = World(retries=retries)
    world.credentials.missing = missing
    for provider, *replies in zip(PROVIDERS, first, second, first, strict=True):
        world.script(provider, *replies)
    providers = PROVIDERS[:count]
    if usual is not None:
        world.expect(usual, providers)
    able = [with_prefill(target(provider)) for provider in providers]
    plan = plan_for(able, stream_recovery=recovery, is_hedged=usual is not None)
    operation = TextOperation(unsupported=unsupported)
    limit = call(seconds)
    began = asyncio.get_running_loop().time()

    async def run() -> None:
        if not streaming:
            result = await world.executor.complete(operation, plan, limit)
            assert result.attempts[-1].outcome is AttemptOutcome.SUCCESS
            return
        stream = (await world.executor.open_stream(operation, plan, limit)).value
        try:
            assert [frame async for batch in stream for frame in batch]
        finally:
            await stream.aclose()

    error: BaseException | None = None
    try:
        async with asyncio.timeout(leaves_after):
            await run()
    except (LLMError, TimeoutError, ZeroDivisionError) as caught:
        error = caught

    world.assert_accounts_are_closed()
    asked = world.asked()
    assert len(asked) <= 4
    assert asked == sorted(asked) or usual is not None
    assert not set(asked) & (missing | unsupported)
    assert all(times <= 3 for times in Counter(asked).values())
    # An answer in time is never discarded, and no call exceeds the deadline.
    took = asyncio.get_running_loop().time() - began
    assert took <= max(seconds, 0) + TAIL_SECONDS + 1e-6
    outcomes = [settled.outcome for settled in world.ledger.ends]
    if usual is None:
        assert outcomes.count(AttemptOutcome.SUCCESS) == (error is None)
        assert outcomes[:-1] == [AttemptOutcome.FAILURE] * (len(outcomes) - 1)
    else:
        assert (AttemptOutcome.SUCCESS in outcomes) >= (error is None)
    for settled in world.ledger.ends:
        failed = settled.outcome is AttemptOutcome.FAILURE
        assert (settled.error_code in ERRORS_BY_CODE) is failed
        if settled.outcome is AttemptOutcome.SUCCESS:
            assert settled.usage is not None
    if isinstance(error, RoutingError | UpstreamError):
        assert all(attempt.outcome is not AttemptOutcome.SUCCESS for attempt in error.attempts)
