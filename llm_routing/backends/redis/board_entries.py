"""Encodes, signs and verifies the entries of the board of circuit breakers.

Times are milliseconds of Redis's clock. A signature covers the entry's time and target, so that an
entry cannot be used for another target, nor replayed later.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import uuid4

from llm_routing.backends.breakers import Key
from llm_routing.core.breaker import BreakerRules, CallCounts, Opening
from llm_routing.core.codec import decode, encode
from llm_routing.core.ports import Signer

MAX_CAUSE = 64
LONGEST_ENTRY = 1024 * 1024
LONGEST_BATCH = 200
SLACK_MS = 2000
"""How far apart two processes may be in what they take for Redis's time."""
_YEAR = 365 * 86_400.0


class Forged(Exception):
    """This was not written by a process of this installation, or was written for something else."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A breaker that is not closed; another `id` is another opening."""

    id: str
    opening: Opening


@dataclass(frozen=True, slots=True)
class _Batch:
    """Calls that one process told at one moment; `not_before` is a moment, 0 without one."""

    at: int
    calls: int
    failures: int
    slow_calls: int
    not_before: int


class BoardWords:
    """Writes and reads what is on one board, and remembers the batches of calls it has read."""

    def __init__(self, rules: BreakerRules, board: str, signer: Signer) -> None:
        self._rules = rules
        self._board = board
        self._signer = signer
        self._batches: dict[Key, dict[bytes, _Batch]] = {}
        self._forged = 0

    def opening(self, key: Key, entry: Entry, now: int) -> dict[str, str]:
        """Returns an entry as it is told."""
        opening = entry.opening
        signed = encode(
            {
                "id": entry.id,
                "cause": opening.cause,
                "level": opening.level,
                "since": now - _milliseconds(opening.opened_for),
                "retry_at": now + _milliseconds(opening.retry_after),
            }
        ).decode()
        return {"signed": signed, "signature": self._signer.sign(signed, self._name(key))}

    def entry(self, key: Key, raw: bytes, now: int) -> Entry:
        """Reads an entry, within the limits that the rules set. Raises `Forged`."""
        try:
            found = decode(raw)
            signed = found["signed"]
            if not self._signer.is_signed(signed, self._name(key), found["signature"]):
                raise Forged
            value, longest = decode(signed), self._rules.max_open_time
            opening = Opening(
                cause=str(value["cause"])[:MAX_CAUSE],
                opened_for=_within((now - value["since"]) / 1000, _YEAR),
                retry_after=_within((value["retry_at"] - now) / 1000, longest),
                level=int(_within(value["level"], 1e6)),
            )
            return Entry(str(value["id"]), opening)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Forged from None

    def token(self, entry_id: str) -> str:
        """Returns a new token for a probe under an entry."""
        nonce = uuid4().hex
        return f"{nonce}.{self._signer.sign(nonce, self._probe(entry_id))}"

    def check_claims(self, raw: bytes, now: int, lease: float) -> None:
        """Raises `Forged` when the claims that keep others from probing are not all ours."""
        found = decode(raw)
        name = self._probe(str(decode(found["signed"])["id"]))
        proven = found["proven"]
        if not 0 <= proven < self._rules.probes:
            raise Forged
        for token, ends_at in found["claims"].items():
            nonce, _, signature = token.partition(".")
            if now < ends_at <= now + _milliseconds(lease) and not self._signer.is_signed(
                nonce, name, signature
            ):
                raise Forged

    def batch(self, key: Key, news: CallCounts, now: int) -> str:
        """Returns calls as they are told."""
        not_before = now + _milliseconds(news.retry_after) if news.retry_after > 0 else 0
        text = (
            f"{now} {news.calls} {news.failures} {news.slow_calls} {not_before} {uuid4().hex[:16]}"
        )
        return f"{text} {self._signer.sign(text, self._calls(key))}"

    def heard_until(self, key: Key) -> int:
        """Returns the moment from which batches are of interest; earlier ones have been read."""
        known = self._batches.get(key)
        return max(batch.at for batch in known.values()) - SLACK_MS if known else 0

    def total(self, key: Key, found: Iterable[bytes], now: int) -> CallCounts:
        """Returns the calls of all processes in the window; `found` may hold known batches."""
        known = self._batches.setdefault(key, {})
        for raw in found:
            if raw not in known:
                try:
                    known[raw] = self._read(key, raw, now)
                except Forged:
                    self._forged += 1
        begin = now - _milliseconds(self._rules.window)
        calls = failures = slow_calls = latest = 0
        kept: dict[bytes, _Batch] = {}
        for raw, batch in sorted(known.items(), key=_by_moment, reverse=True):
            if batch.at <= begin or calls >= self._rules.window_calls:
                break
            kept[raw] = batch
            calls += batch.calls
            failures += batch.failures
            slow_calls += batch.slow_calls
            latest = max(latest, batch.not_before)
        self._batches[key] = kept
        return CallCounts(calls, failures, slow_calls, retry_after=max(0, latest - now) / 1000)

    def forget(self, key: Key) -> None:
        """Forgets the calls of a breaker that has opened or closed."""
        self._batches.pop(key, None)

    def forget_old(self, now: int) -> None:
        """Forgets the calls of breakers that have had none in the window."""
        begin = now - _milliseconds(self._rules.window)
        for key in [key for key, known in self._batches.items() if _ended(known, begin)]:
            del self._batches[key]

    def take_forged(self) -> int:
        """Returns how many batches were not ours since the last time."""
        forged, self._forged = self._forged, 0
        return forged

    def _read(self, key: Key, raw: bytes, now: int) -> _Batch:
        try:
            text, _, signature = raw.decode().rpartition(" ")
            if not self._signer.is_signed(text, self._calls(key), signature):
                raise Forged
            at, calls, failures, slow_calls, not_before = map(int, text.split(" ")[:5])
        except ValueError:
            raise Forged from None
        if at > now + SLACK_MS:
            raise Forged
        return _Batch(at, calls, failures, slow_calls, not_before)

    def _name(self, key: Key) -> str:
        return f"{self._board} opening {key[0]}/{key[1]}"

    def _calls(self, key: Key) -> str:
        return f"{self._board} calls {key[0]}/{key[1]}"

    def _probe(self, entry_id: str) -> str:
        return f"{self._board} probe {entry_id}"


def _by_moment(item: tuple[bytes, _Batch]) -> int:
    return item[1].at


def _ended(batches: dict[bytes, _Batch], begin: int) -> bool:
    return all(batch.at <= begin for batch in batches.values())


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _within(number: float, most: float) -> float:
    return min(max(number, 0.0), most)
