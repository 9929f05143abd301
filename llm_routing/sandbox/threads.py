"""Conversations that the sandbox stores, like Anthropic's message threads (beta 2026-08-12)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from . import fields
from .fields import BadRequest

BETA: Final = "message-threads-2026-08-12"
_MOST: Final = 1000
# The fields that a thread keeps from the request that created it.
_KEPT: Final = ("system", "tools")


class Threads:
    """The latest threads, by the id of the last answer in each; older ones are dropped."""

    def __init__(self) -> None:
        self._held: dict[str, Mapping[str, Any]] = {}

    def resumed(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the whole conversation of a request. Raises `BadRequest`."""
        if body.get("thread") is None:
            return body
        thread = fields.mapping(body["thread"], "thread")
        match thread.get("type"):
            case "create":
                return body
            case "continue":
                return self._resumed(body, fields.text(thread, "previous_message_id"))
            case _:
                raise BadRequest("thread.type: Input should be 'create' or 'continue'")

    def forget(self) -> None:
        """Drops every thread, as a vendor does after some time."""
        self._held.clear()

    def keep(
        self, body: Mapping[str, Any], message_id: str, content: Sequence[Mapping[str, Any]]
    ) -> None:
        """Stores a whole conversation and the answer to it."""
        if body.get("thread") is None:
            return
        answer = {"role": "assistant", "content": list(content)}
        self._held[message_id] = {**body, "messages": [*body["messages"], answer]}
        while len(self._held) > _MOST:
            del self._held[next(iter(self._held))]

    def _resumed(self, body: Mapping[str, Any], message_id: str) -> Mapping[str, Any]:
        held = self._held.get(message_id)
        if held is None:
            raise BadRequest(
                f"No thread was found for {message_id}.", status=404, code="thread_not_found"
            )
        for name in _KEPT:
            if body.get(name) is not None:
                raise BadRequest(f"{name}: not allowed when a thread is continued")
        kept = {name: held[name] for name in _KEPT if name in held}
        new = fields.sequence(body.get("messages"), "messages")
        return {**body, **kept, "messages": [*held["messages"], *new]}
