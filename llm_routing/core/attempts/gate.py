"""Admits a call to a target: acquires a connection slot and a breaker permit."""

from msgspec import Struct

from llm_routing.core.breaker import Rejected
from llm_routing.core.errors import BreakerOpen, ProviderBusy
from llm_routing.core.ports import BreakerStore, Clock, Permit
from llm_routing.core.routing_table import Target

from .limits import ProviderLimits, QueueFull, Slot


class Admitted(Struct, frozen=True):
    """An admitted call to a target, with the seconds that it `waited` for a connection slot."""

    target: Target
    permit: Permit
    slot: Slot
    waited: float

    def release(self) -> None:
        """Gives permit and slot back: the call is not made."""
        self.permit.release()
        self.slot.release()


class Gate:
    """Admits calls to targets or returns the reason for a rejection."""

    def __init__(self, breakers: BreakerStore, limits: ProviderLimits, clock: Clock) -> None:
        self._breakers = breakers
        self._limits = limits
        self._clock = clock

    async def admit(
        self, target: Target, until: float, *, force: bool = False
    ) -> Admitted | ProviderBusy | BreakerOpen:
        """Acquires a slot and a permit for `target`, waiting for the slot until `until` (monotonic
        seconds). `force` admits the call even if the breaker is open."""
        began = self._clock.monotonic()
        # The slot comes first because the breaker may open during the wait for it.
        provider = target.provider
        slot = self._limits.try_acquire(provider) or await self._limits.acquire(provider, until)
        if isinstance(slot, QueueFull):
            return ProviderBusy(
                f"All connections to {provider.name} are in use.",
                retry_after=slot.retry_after,
            )
        try:
            permit = await self._breakers.admit(target, force=force)
        except BaseException:
            slot.release()
            raise
        if isinstance(permit, Rejected):
            slot.release()
            return BreakerOpen(
                f"The circuit breaker of {target.model.key} is open ({permit.cause}).",
                retry_after=permit.retry_after,
                cause=permit.cause,
            )
        return Admitted(target, permit, slot, self._clock.monotonic() - began)
