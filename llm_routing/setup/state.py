"""The state of the configuration: providers with a key, and models that routes use.

Changes nothing.
"""

from collections.abc import Iterator, Mapping

from llm_routing.conf import get_settings
from llm_routing.configuration.credentials import STORED, find_key
from llm_routing.configuration.provider_problems import forbidden_address
from llm_routing.core.capabilities import Capability
from llm_routing.models import Provider, UseCaseRoute
from llm_routing.vendors import VENDORS, Vendor

from .report import ProviderState, RouteState


def answers_for_real(provider: Provider, environ: Mapping[str, str]) -> bool:
    """Returns whether the provider is active and not the sandbox."""
    vendor = VENDORS.get(provider.vendor)
    if vendor is None or vendor.is_sandbox:
        return False
    return not vendor.needs_key or bool(find_key(provider, environ).value)


def wanting(vendor: Vendor) -> str:
    """Returns the settings that a provider of this vendor lacks."""
    if vendor.needs_key:
        return f"{' or '.join(vendor.api_key_envs)} is not set"
    return "needs no key"


def provider_states(environ: Mapping[str, str]) -> tuple[ProviderState, ...]:
    """Returns the state of every provider."""
    return tuple(
        ProviderState(provider.name, provider.vendor, provider.is_active, _key(provider, environ))
        for provider in Provider.objects.order_by("priority", "name")
    )


def route_states() -> tuple[RouteState, ...]:
    """Returns the state of every active route, with its active models."""
    states = []
    for route in UseCaseRoute.objects.active().with_targets().order_by("use_case", "tier"):
        models: dict[bool, list[str]] = {False: [], True: []}
        for target in sorted(route.targets.all(), key=lambda target: target.position):
            model = target.model
            if model.is_active and model.provider.is_active:
                models[Capability.EMBEDDINGS in model.capabilities].append(model.address)
        states.append(
            RouteState(route.use_case, route.tier, tuple(models[False]), tuple(models[True]))
        )
    return tuple(states)


def warnings(environ: Mapping[str, str]) -> Iterator[str]:
    """Returns problems for the operator, one sentence each."""
    active = list(Provider.objects.active().order_by("name"))
    real = [provider for provider in active if answers_for_real(provider, environ)]
    for provider in active:
        vendor = VENDORS.get(provider.vendor)
        if vendor is None:
            yield f"The provider {provider.name} has the unknown vendor {provider.vendor}."
        elif vendor.is_sandbox and real:
            yield (
                f"The provider {provider.name} is active beside real ones. It answers "
                "only if it is the only target of a route or is requested by name. "
                "Deactivate it unless this is intended."
            )
        elif not vendor.is_sandbox and provider not in real:
            variables = provider.api_key_env or " or ".join(vendor.api_key_envs)
            yield (
                f"The provider {provider.name} is active, but its key is not configured here: set "
                f"{variables}, or deactivate it."
            )
        if vendor is None:
            continue
        settings = get_settings()
        address = settings.provider_base_url(vendor, provider.base_url)
        if reason := forbidden_address(address, settings):
            yield f"The provider {provider.name} cannot be called: {reason}"
        if hint := vendor.path_hint(provider.base_url):
            yield f"{provider.name}: {hint}"
    empty = [f"{route.use_case}:{route.tier}" for route in route_states() if not route.models]
    if empty:
        yield f"Routes without an active model: {', '.join(empty)}."


def _key(provider: Provider, environ: Mapping[str, str]) -> str:
    origin = find_key(provider, environ).origin
    if origin:
        return STORED if origin == STORED else f"from {origin}"
    vendor = VENDORS.get(provider.vendor)
    return "unknown vendor" if vendor is None else wanting(vendor)
