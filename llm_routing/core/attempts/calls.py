"""One request on its way to an answer: its caller and its limits."""

from msgspec import Struct

from llm_routing.core.routing_table import ProviderSpec, RouteSpec
from llm_routing.core.types import Caller

from .retry import MAX_ATTEMPTS


class Timeouts(Struct, frozen=True):
    """Limits of an attempt, in seconds and bytes."""

    connect: float
    first_token: float
    idle: float
    total: float
    max_answer_bytes: int

    def overridden_by(self, route: RouteSpec | None, provider: ProviderSpec) -> "Timeouts":
        """Returns these limits with the overrides of the provider and, with precedence, of the
        route."""
        is_silent = provider.total_timeout is None and _is_silent(provider)
        if is_silent and (route is None or _is_silent(route)):
            return self
        connect, first_token = self.connect, self.first_token
        idle, total = self.idle, self.total
        for own in (provider,) if route is None else (provider, route):
            connect = connect if own.connect_timeout is None else own.connect_timeout
            idle = idle if own.idle_timeout is None else own.idle_timeout
            if own.first_token_timeout is not None:
                first_token = own.first_token_timeout
        if provider.total_timeout is not None:
            total = provider.total_timeout
        return Timeouts(connect, first_token, idle, total, self.max_answer_bytes)


def _is_silent(own: RouteSpec | ProviderSpec) -> bool:
    """Returns whether the row overrides no timeout, as nearly all do."""
    return own.connect_timeout is own.idle_timeout is own.first_token_timeout is None


class Call(Struct, frozen=True):
    """One request: its caller and its deadline (monotonic seconds).

    `deadline_is_callers`: the caller chose the deadline, so a target that misses it is not
    necessarily slow.
    """

    request_id: str
    caller: Caller
    deadline: float
    deadline_is_callers: bool = False
    max_attempts: int = MAX_ATTEMPTS
