"""Rules of the response cache: which requests use it, and which answers may be served again."""

from collections.abc import Iterable
from typing import ClassVar, Final

from msgspec import Struct

from llm_routing.core.content import ForeignPart, ForeignTool, RefusalPart, ToolCallPart
from llm_routing.core.routing_table import RouteSpec
from llm_routing.core.types import Completion, FinishReason, LLMRequest

MAX_ENTRY_BYTES: Final = 1024 * 1024
MAX_TTL: Final = 30 * 24 * 3600

# With these fields, answers depend on the outside world or have side effects.
_REACHES_OUT: Final = frozenset(
    ("web_search_options", "plugins", "mcp_servers", "container", "store", "background")
)
_GOOD_ENDS: Final = frozenset((FinishReason.STOP, FinishReason.STOP_SEQUENCE))


class CacheRule(Struct, frozen=True):
    """The cache rule of one request. Answers older than `ttl` seconds are not used, and new ones
    are stored for that long. Without `reads` the request only fills the cache.

    `must_wait`: the request waits for an identical one in flight and is never sent beside it.
    `fingerprint` identifies the request if the key does not.
    """

    ttl: float
    reads: bool = True
    keeps_tool_calls: bool = False
    must_wait: ClassVar[bool] = False
    fingerprint: ClassVar[str] = ""

    def is_cacheable(self, answer: object) -> bool:
        """Returns whether a whole answer may be served again."""
        return isinstance(answer, Completion) and is_cacheable_completion(answer, self)

    def is_stream_cacheable(
        self, reasons: Iterable[FinishReason | None], *, has_content: bool, calls_tools: bool
    ) -> bool:
        """Returns whether a complete stream may be served again."""
        return is_complete_answer(
            reasons, has_content=has_content, calls_tools=calls_tools, rule=self
        )


def cache_rule(request: LLMRequest, route: RouteSpec | None, default_ttl: int) -> CacheRule | None:
    """Returns the rule for a request with the route's defaults applied; None if it bypasses the
    cache.

    A TTL of 0 set by the operator, for the route or for all routes, turns caching off. Otherwise
    the request's `cache` decides; if it is not set, only deterministic requests are cached.
    """
    operators = default_ttl if route is None or route.cache_ttl is None else route.cache_ttl
    ttl = operators if request.cache_ttl is None else request.cache_ttl
    if operators <= 0 or ttl <= 0 or request.cache is False:
        return None
    is_asked = request.cache is True
    if not is_asked and not is_deterministic(request):
        return None
    return CacheRule(min(ttl, MAX_TTL), reads=not request.cache_refresh, keeps_tool_calls=is_asked)


def is_deterministic(request: LLMRequest) -> bool:
    """Returns whether the caller expects equal answers to equal requests: one choice, temperature 0
    or a seed, and no tools or fields that reach the outside world."""
    if request.n != 1 or (request.temperature != 0 and request.seed is None):
        return False
    for tool in request.tools:
        if isinstance(tool, ForeignTool):
            # Vendors' own tools search the web or run code.
            return False
    source = request.source
    return _REACHES_OUT.isdisjoint(request.extra) and (
        source is None or _REACHES_OUT.isdisjoint(source.body)
    )


def is_cacheable_completion(completion: Completion, rule: CacheRule) -> bool:
    """Returns whether a whole answer may be served again; see `is_complete_answer`."""
    reasons: list[FinishReason | None] = []
    has_content = calls_tools = False
    for choice in completion.choices:
        reasons.append(choice.finish_reason)
        for part in choice.content:
            has_content = True
            if isinstance(part, RefusalPart):
                reasons.append(FinishReason.REFUSAL)
            elif isinstance(part, (ToolCallPart, ForeignPart)):
                calls_tools = True
    return is_complete_answer(reasons, has_content=has_content, calls_tools=calls_tools, rule=rule)


def is_complete_answer(
    reasons: Iterable[FinishReason | None],
    *,
    has_content: bool,
    calls_tools: bool,
    rule: CacheRule,
) -> bool:
    """Returns whether an answer may be served again: it has content, and every choice ended
    normally.

    Truncated, filtered and refused answers may succeed on the next try. Tool calls have side
    effects, so they are cached only if the request asked for the cache explicitly.
    """
    good = _GOOD_ENDS | {FinishReason.TOOL_CALLS} if rule.keeps_tool_calls else _GOOD_ENDS
    if calls_tools and not rule.keeps_tool_calls:
        return False
    return has_content and good.issuperset(reasons)
