"""Whether a target may be asked now: a free connection to its provider, and a closed circuit."""

from msgspec import Struct

from llm_routing.core.breaker import Rejected
from llm_routing.core.errors import BreakerOpen, ProviderBusy
from llm_routing.core.ports import BreakerStore, Clock, Permit
from llm_routing.core.routing_table import Target

from .limits import ProviderLimits, QueueFull, Slot


class Admitted(Struct, frozen=True):
    """A target that may be asked, after `waited` seconds for it."""

    target: Target
    permit: Permit
    slot: Slot
    waited: float

    def release(self) -> None:
        """It is not asked after all."""
        self.permit.release()
        self.slot.release()


class Gate:
    """Lets attempts through to their targets, or says why not."""

    def __init__(self, breakers: BreakerStore, limits: ProviderLimits, clock: Clock) -> None:
        self._breakers = breakers
        self._limits = limits
        self._clock = clock

    async def admit(
        self, target: Target, until: float, *, force: bool = False
    ) -> Admitted | ProviderBusy | BreakerOpen:
        """Leave to ask `target`, waited for `until` then (monotonic seconds). `force`: also
        where its breaker is open."""
        began = self._clock.monotonic()
        # The place first: the breaker may open while we wait for it.
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
                f"{target.model.key} is left alone after failures ({permit.cause}).",
                retry_after=permit.retry_after,
                cause=permit.cause,
            )
        return Admitted(target, permit, slot, self._clock.monotonic() - began)
