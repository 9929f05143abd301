"""Opens streams with an executor and reads them, for the tests of streams."""

from collections.abc import Sequence
from decimal import Decimal

from llm_routing.core.attempts.chain import Result
from llm_routing.core.errors import (
    LLMError,
)
from llm_routing.core.events import Frame
from llm_routing.core.ports import FrameStream
from llm_routing.core.routing_table import Price
from tests.core.fakes import World, call, lines, plan_for, target
from tests.core.text_operation import TextOperation

PRICE = Price(Decimal(3), Decimal(15))
COMPLETE = lines("start/text:Hel", "text:lo", "finish/usage:3,4", "end")
REPORT = ""
"""The frame that reports an estimate, which has no bytes of its own."""


async def opened(
    world: World, providers: str = "ab", seconds: float = 120.0
) -> Result[FrameStream]:
    plan = plan_for(target(name, PRICE) for name in providers)
    return await world.executor.open_stream(TextOperation(), plan, call(seconds))


async def read(stream: FrameStream) -> list[list[str]]:
    """Returns the lines of each batch and closes the stream."""
    try:
        return [shown(batch) async for batch in stream]
    finally:
        await stream.aclose()


def shown(batch: Sequence[Frame]) -> list[str]:
    return [frame.raw.decode() for frame in batch]


async def broken_off(stream: FrameStream) -> tuple[list[str], LLMError]:
    """Returns the received lines and the error that cut them short; checks that a broken stream has
    ended."""
    came: list[str] = []
    error: LLMError | None = None
    try:
        async for batch in stream:
            came += shown(batch)
    except LLMError as caught:
        error = caught
    assert error is not None
    assert [batch async for batch in stream] == []
    await stream.aclose()
    return came, error
