"""An operation with a readable wire format: an answer is its text, a stream is lines of events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from llm_routing.core.errors import (
    ContentFiltered,
    ContextTooLong,
    MalformedAnswer,
    RateLimited,
    RequestRejected,
    ServerFailed,
    TruncatedStream,
    UnsupportedRequest,
    UpstreamError,
)
from llm_routing.core.events import (
    AnswerEnded,
    AnswerStarted,
    ChoiceFinished,
    Frame,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageReported,
)
from llm_routing.core.ports import (
    WireRequest,
)
from llm_routing.core.routing_table import Target
from llm_routing.core.types import FinishReason, Usage

ERRORS_BY_STATUS: Mapping[int, type[UpstreamError]] = {
    400: RequestRejected,
    403: ContentFiltered,
    413: ContextTooLong,
    429: RateLimited,
}


class LineParser:
    """Parses one event per line: `text:hi`, `usage:3,4`, `finish`, `end`; `error` is an error in a
    200. After `hush` the end of the connection gives no end event."""

    def __init__(self) -> None:
        self.failure: UpstreamError | None = None
        self._is_finished = False
        self._is_hushed = False

    def feed(self, data: bytes) -> Sequence[Frame]:
        frames: list[Frame] = []
        try:
            for line in data.decode().splitlines():
                events = self._events(*line.partition(":")[::2])
                frames.append(Frame("lines", line.encode(), events))
        except UpstreamError as error:
            self.failure = error
            if not frames:
                raise
        return frames

    def close(self) -> Sequence[Frame]:
        if not self._is_finished:
            raise TruncatedStream("The stream ended without a finish.")
        return [] if self._is_hushed else [Frame("lines", b"", (AnswerEnded(),))]

    def _events(self, kind: str, value: str) -> tuple[StreamEvent, ...]:
        match kind:
            case "start":
                return (AnswerStarted("a1", "m", usage_of(value)),)
            case "text":
                return (TextDelta(value),)
            case "think":
                return (ThinkingDelta(value),)
            case "refuse":
                return (RefusalDelta(value),)
            case "args":
                return (ToolCallDelta(0, value),)
            case "usage":
                usage = usage_of(value)
                assert usage is not None
                return (UsageReported(usage),)
            case "finish":
                self._is_finished = True
                return (ChoiceFinished(FinishReason.STOP),)
            case "end":
                return (AnswerEnded(),)
            case "hush":
                self._is_hushed = True
            case "error":
                raise ServerFailed("An error inside a 200.")
            case "bug":
                raise ZeroDivisionError
        return ()


def usage_of(text: str) -> Usage | None:
    """Converts `3,4` to three input and four output tokens."""
    if not text:
        return None
    given, made = text.split(",")
    return Usage(int(given), int(made))


@dataclass
class TextOperation:
    """Asks for a text. A body may end with its usage, as in `|3,4`. Parts in `unsupported` cannot
    be built for that provider; the body `bug` raises an internal error."""

    name: str = "chat"
    input_length: int = 400
    proves_health: bool = True
    unsupported: frozenset[str] = frozenset()
    can_be_continued: bool = True
    begun: str = ""
    is_billed: bool = True

    def build(self, target: Target) -> WireRequest:
        if target.provider.name in self.unsupported:
            raise UnsupportedRequest("This cannot be said here.")
        return WireRequest(
            f"/ask/{target.model.model_id}",
            f"question{self.begun}".encode(),
            {"content-type": "text/plain"},
            ignored=(f"seed for {target.provider.name}",),
        )

    def parse(self, target: Target, body: bytes) -> str:
        if body == b"bug":
            raise ZeroDivisionError
        if not body:
            raise MalformedAnswer("There is no answer in the answer.")
        return body.decode()

    def usage(self, result: str) -> Usage | None:
        return usage_of(result.partition("|")[2])

    def with_usage(self, result: str, usage: Usage) -> str:
        return result

    def output_length(self, result: str) -> int:
        return len(result)

    def stream_parser(self, target: Target) -> LineParser:
        return LineParser()

    def continued(self, text: str) -> "TextOperation | None":
        return replace(self, begun=f" begun: {text}") if self.can_be_continued else None

    def map_error(
        self, target: Target, status: int, headers: Mapping[str, str], body: bytes
    ) -> UpstreamError:
        kind = ERRORS_BY_STATUS.get(status, ServerFailed)
        retry_after = 7.0 if body == b"wait 7" else None
        return kind(body.decode() or "No reason.", status=status, retry_after=retry_after)

    def review(self, target: Target, error: UpstreamError) -> None:
        if error.message == "The caller provoked it.":
            error.counts_against_breaker = False
        if error.message == "We wrote it.":
            error.retryable_elsewhere = True
