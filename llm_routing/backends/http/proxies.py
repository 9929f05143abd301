"""Chooses the HTTP proxy to a provider, by the settings and the environment."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed


@dataclass(frozen=True, slots=True)
class Proxies:
    """Proxies by the scheme of the provider's address: URLs that may hold a password, or empty.
    `bypass` lists names that are connected to directly, as in NO_PROXY."""

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    bypass: str = ""

    def for_origin(self, origin: str) -> str:
        """Returns the proxy for `scheme://host:port`, empty for a direct connection. Raises
        `ValueError` if `origin` is not a URL."""
        if not (self.http or self.https):
            return ""
        parts = urlsplit(origin)
        proxy = self.https if parts.scheme == "https" else self.http
        host = parts.hostname or ""
        hosts = (host, f"{host}:{parts.port}") if parts.port else (host,)
        if any(proxy_bypass_environment(name, {"no": self.bypass}) for name in hosts):
            return ""
        return proxy
