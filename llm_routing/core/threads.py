"""Threads: conversations whose earlier turns a vendor stores (Anthropic's message threads).

The id of each answer in a thread contains the target that gave it and a MAC, so any process can
send the next turn there. The MAC binds the id to a tenant: no other tenant can continue the thread,
even if both use the same account at the vendor.
"""

import hmac
from binascii import unhexlify
from hashlib import sha256
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from .errors import ThreadNotFound, ThreadUnsupported
from .planner import RoutePlan
from .routing_table import Target
from .types import LLMRequest, Thread

_MARK: Final = "_thr_"
_PROOF_LENGTH: Final = 32
_PURPOSE: Final = b"ids of answers in threads\0"


class _Opened(Struct, frozen=True):
    message_id: str
    model_key: str


class ThreadIds:
    """Issues and checks the ids of answers in threads, for one tenant."""

    def __init__(self, secret: bytes, tenant: str) -> None:
        self._secret = secret
        self._tenant = tenant

    def sealed(self, message_id: str, target: Target) -> str:
        """Returns the id with the target that gave the answer. An id that already contains one is
        returned unchanged."""
        if self._opened(message_id) is not None:
            return message_id
        carried = target.model.key.encode().hex()
        return f"{message_id}{_MARK}{self._proof(message_id, carried)}{carried}"

    def follow(self, plan: RoutePlan, request: LLMRequest) -> tuple[RoutePlan, LLMRequest]:
        """Returns the plan and the request of a turn.

        A turn that continues a thread goes only to the target that stores the thread, with the
        vendor's own id. Raises `ThreadNotFound` or `ThreadUnsupported`; clients then send the whole
        conversation.
        """
        thread = request.thread
        if thread is None or thread.previous is None:
            return plan, request
        opened = self._opened(thread.previous)
        if not any(target.provider.quirks.holds_threads for target in plan.targets):
            raise ThreadUnsupported("The model of this request does not support threads.")
        holders = [
            target
            for target in plan.targets
            if opened is not None and target.model.key == opened.model_key
        ]
        if opened is None or not holders:
            raise ThreadNotFound("No thread was found for previous_message_id.")
        if not holders[0].provider.quirks.holds_threads:
            raise ThreadUnsupported("The provider of the thread's last answer has no threads.")
        return (
            replace(plan, targets=(holders[0],)),
            replace(request, thread=Thread(opened.message_id)),
        )

    def _opened(self, sealed: str) -> _Opened | None:
        """Returns the data in an id; None if the id was not issued to this tenant."""
        message_id, mark, rest = sealed.rpartition(_MARK)
        proof, carried = rest[:_PROOF_LENGTH], rest[_PROOF_LENGTH:]
        if not mark or not rest.isascii():
            return None
        if not hmac.compare_digest(proof, self._proof(message_id, carried)):
            return None
        return _Opened(message_id, unhexlify(carried).decode())

    def _proof(self, message_id: str, carried: str) -> str:
        text = "\0".join((self._tenant, message_id, carried)).encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, _PURPOSE + text, sha256).hexdigest()[:_PROOF_LENGTH]
