"""Builds the HTTP transport to the providers from the settings."""

from collections.abc import Callable

from llm_routing.backends.http.proxies import Proxies
from llm_routing.backends.http.transport import AiohttpTransport
from llm_routing.conf import Settings


def build_transport(
    settings: Settings, on_forbidden: Callable[[str, str], None] | None = None
) -> AiohttpTransport:
    """Returns a transport with connections of its own; close it with `aclose`. `on_forbidden` is
    called with the provider and the reason when the settings do not allow its address."""
    return AiohttpTransport(
        pool_size=settings.connection_pool_size,
        allowed_networks=settings.allowed_upstream_networks,
        proxies=Proxies(
            http=settings.http_proxy.get_secret_value() if settings.http_proxy else "",
            https=settings.https_proxy.get_secret_value() if settings.https_proxy else "",
            bypass=settings.no_proxy,
        ),
        on_forbidden=on_forbidden,
    )
