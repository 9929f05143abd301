"""Rules, keys and entries of the response cache, and a bounded LRU.

Pure: moments come in as arguments. Who asks upstream where many want the same is in `cached`.
"""

from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from sys import getsizeof
from typing import ClassVar, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from llm_routing.core.codec import encode_struct, struct_decoder
from llm_routing.core.content import ForeignPart, ForeignTool, RefusalPart, ToolCallPart
from llm_routing.core.hidden_fields import HidesFields
from llm_routing.core.routing_table import RouteSpec
from llm_routing.core.types import Completion, FinishReason, LLMRequest, Usage

MAX_ENTRY_BYTES: Final = 1024 * 1024
MAX_TTL: Final = 30 * 24 * 3600

# Fields of vendors whose answer depends on the world, or which leave something behind.
_REACHES_OUT: Final = frozenset(
    ("web_search_options", "plugins", "mcp_servers", "container", "store", "background")
)
_GOOD_ENDS: Final = frozenset((FinishReason.STOP, FinishReason.STOP_SEQUENCE))
# A slot of the dictionary and its order, two floats and the objects themselves.
_SLOT_BYTES: Final = 800
_CHARACTER_BYTES: Final = 4


class CacheRule(Struct, frozen=True):
    """The cache rule of one request. An answer older than `ttl` seconds is not used, and a new one
    is stored for that long. Without `reads` the request fills the cache and reads nothing from it.

    `must_wait`: the request waits for an identical one in flight and is not sent beside it.
    `fingerprint` identifies the requests of an answer if its key does not.
    """

    ttl: float
    reads: bool = True
    keeps_tool_calls: bool = False
    must_wait: ClassVar[bool] = False
    fingerprint: ClassVar[str] = ""

    def is_cacheable(self, answer: object) -> bool:
        """Whether a whole answer may be served again."""
        return isinstance(answer, Completion) and is_cacheable_completion(answer, self)

    def is_stream_cacheable(
        self, reasons: Iterable[FinishReason | None], *, has_content: bool, calls_tools: bool
    ) -> bool:
        """Whether a stream that came to its end may be served again."""
        return is_complete_answer(
            reasons, has_content=has_content, calls_tools=calls_tools, rule=self
        )


def cache_rule(request: LLMRequest, route: RouteSpec | None, default_ttl: int) -> CacheRule | None:
    """The rule for a request in which the route's defaults are in place; None to leave the cache
    alone.

    The operator's 0, for the route or for all, means never. Else the request decides: `cache`
    false means no, true yes, and where it says nothing only a deterministic one is cached.
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
    """Whether the caller wants the same answer to the same request: one choice, temperature 0 or a
    seed, and nothing that looks into the world."""
    if request.n != 1 or (request.temperature != 0 and request.seed is None):
        return False
    for tool in request.tools:
        if isinstance(tool, ForeignTool):
            # A vendor's own tool: a search, a sandbox that runs code.
            return False
    source = request.source
    return _REACHES_OUT.isdisjoint(request.extra) and (
        source is None or _REACHES_OUT.isdisjoint(source.body)
    )


def is_cacheable_completion(completion: Completion, rule: CacheRule) -> bool:
    """Whether a whole answer may be served again; see `is_complete_answer`."""
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
    """Whether an answer with these ends may be served again: it says something, and every choice
    ended by itself. What was cut off, filtered or refused may go better next time. A call of a
    tool sets something going: it is kept only for who asked for the cache in so many words."""
    good = _GOOD_ENDS | {FinishReason.TOOL_CALLS} if rule.keeps_tool_calls else _GOOD_ENDS
    if calls_tools and not rule.keeps_tool_calls:
        return False
    return has_content and good.issuperset(reasons)


def digest(secret: bytes, parts: Iterable[str | bytes]) -> str:
    """64 hex digits over `parts`, each with its length before it, so that no two lists of parts
    look alike. Keyed with `secret` (at most 64 bytes): nobody without it can test a guess."""
    return blake2b(framed(parts), key=secret, digest_size=32).hexdigest()


def owned_key(secret: bytes, tenant: str, key: str) -> str:
    """`key`, which is a digest, as one of the tenant's: `owner_of` tells it from others'."""
    return f"{_owner(secret, tenant)}.{key}"


def owner_of(key: str) -> str:
    """Returns the owner of a key, or an empty string."""
    return key.rpartition(".")[0]


@lru_cache(maxsize=1024)
def _owner(secret: bytes, tenant: str) -> str:
    return digest(secret, ("tenant", tenant))[:16]


def framed(parts: Iterable[str | bytes]) -> bytes:
    """`parts` in one piece, each with its length before it."""
    pieces: list[bytes] = []
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        pieces.append(len(data).to_bytes(8, "big"))
        pieces.append(data)
    return b"".join(pieces)


class CachedAnswer(HidesFields, frozen=True):
    """An answer as its vendor sent it: the body, or the frames of a stream, joined. It is read
    again in its own `format`, so every caller gets what he would have got from it. `created` is
    its moment in Unix seconds; for `fingerprint` see the rules."""

    hidden_fields: ClassVar = frozenset({"body"})

    provider: str
    model: str
    body: bytes
    usage: Usage | None = None
    ignored: tuple[str, ...] = ()
    format: str = ""
    created: int = 0
    fingerprint: str = ""

    @property
    def size(self) -> int:
        """Bytes of memory, at the most."""
        characters = len(self.provider) + len(self.model) + len(self.fingerprint)
        if self.ignored:
            characters += sum(map(len, self.ignored))
        return len(self.body) + _CHARACTER_BYTES * characters + _SLOT_BYTES


class _Record(Struct, frozen=True):
    """An answer and, apart, its body: as text it is shorter than as bytes."""

    schema: Literal[3]
    key: str
    answer: CachedAnswer
    body: str


_decode: Final = struct_decoder(_Record)


def answer_to_json(key: str, answer: CachedAnswer) -> str:
    """The entry `key` for a shared cache. Raises `ValueError` for a body that is not UTF-8."""
    record = _Record(3, key, _with_body(answer, b""), answer.body.decode())
    return encode_struct(record).decode()


def answer_from_json(key: str, text: str) -> CachedAnswer:
    """The answer of `answer_to_json`. Raises `ValueError` for what is none, is of another release,
    or was written for another key."""
    record = _decode(text)
    if record.key != key:
        raise ValueError("the entry belongs to another key")
    return _with_body(record.answer, record.body.encode())


def _with_body(answer: CachedAnswer, body: bytes) -> CachedAnswer:
    return replace(answer, body=body)


class _Entry(Struct, frozen=True):
    answer: CachedAnswer
    stored_at: float
    expires_at: float
    size: int


class LRUCache:
    """Answers by key, never more than `max_entries` nor `max_bytes`. Without room for one more, the
    owner with the most loses the one that was asked for longest ago, so that no owner can push out
    what is within another's share. Moments are monotonic seconds. For one thread at a time."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._shares: dict[str, _Share] = {}
        self._count = 0
        self.bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return self._count

    def get(self, key: str, max_age: float, now: float) -> CachedAnswer | None:
        """The answer, if it has not expired and is younger than `max_age` seconds."""
        share = self._shares.get(owner_of(key))
        entry = None if share is None else share.entries.get(key)
        if share is None or entry is None:
            return None
        if now >= entry.expires_at:
            self._remove(key)
            return None
        if now - entry.stored_at >= max_age:
            return None
        share.entries.move_to_end(key)
        return entry.answer

    def put(
        self, key: str, answer: CachedAnswer, ttl: float, now: float, *, age: float = 0.0
    ) -> None:
        """Keeps the answer, which is `age` seconds old, for `ttl` seconds more. One that has no
        room at all is left out, and so is the one it would have replaced."""
        self._remove(key)
        size = answer.size + getsizeof(key)
        if size > self._max_bytes or self._max_entries < 1 or ttl <= 0:
            return
        while self._count >= self._max_entries or self.bytes + size > self._max_bytes:
            largest = max(self._shares.values(), key=self._part)
            self._remove(next(iter(largest.entries)))
            self.evictions += 1
        share = self._shares.setdefault(owner_of(key), _Share())
        share.entries[key] = _Entry(answer, now - age, now + ttl, size)
        share.bytes += size
        self._count += 1
        self.bytes += size

    def clear(self) -> None:
        """Forgets every answer."""
        self._shares.clear()
        self._count = self.bytes = 0

    def _part(self, share: "_Share") -> float:
        """Of the room there is."""
        return max(len(share.entries) / self._max_entries, share.bytes / self._max_bytes)

    def _remove(self, key: str) -> None:
        owner = owner_of(key)
        share = self._shares.get(owner)
        entry = None if share is None else share.entries.pop(key, None)
        if share is None or entry is None:
            return
        share.bytes -= entry.size
        self._count -= 1
        self.bytes -= entry.size
        if not share.entries:
            del self._shares[owner]


class _Share:
    """The entries of one owner."""

    __slots__ = ("bytes", "entries")

    def __init__(self) -> None:
        self.entries: OrderedDict[str, _Entry] = OrderedDict()
        self.bytes = 0
