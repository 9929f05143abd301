"""The type of a vendor's row: address, headers and quirks, and hints about base URLs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import urlsplit

from llm_routing.core.quirks import ANY, Quirks
from llm_routing.formats.names import OPENAI_CHAT

_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Auth(StrEnum):
    """The header for the API key of a vendor. OPTIONAL_BEARER sends a key only if there is one."""

    BEARER = "bearer"
    OPTIONAL_BEARER = "optional_bearer"
    X_API_KEY = "x_api_key"
    PORTKEY = "portkey"

    @property
    def needs_key(self) -> bool:
        """Whether requests need a key."""
        return self is not Auth.OPTIONAL_BEARER

    def headers(self, api_key: str) -> dict[str, str]:
        """Returns the header that carries the key; empty for an empty key."""
        if not api_key:
            return {}
        match self:
            case Auth.X_API_KEY:
                return {"x-api-key": api_key}
            case Auth.PORTKEY:
                return {"x-portkey-api-key": api_key}
            case Auth.BEARER | Auth.OPTIONAL_BEARER:
                return {"Authorization": f"Bearer {api_key}"}


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor.

    `format` names a wire format and `base_url` is what its paths are appended to. `api_key_env`
    names the environment variable of the key, `api_key_env_fallbacks` those that the vendor's own
    clients read. `headers` go with every request; `setting_headers` maps a header to the setting (a
    field of `conf.Settings`) whose value it carries, unless that is empty. `models_path` is where
    models are listed, below the base URL; `credential_path` is requested to check a key if the
    model list is public. `accepts_unlisted_models`: it accepts models missing from its model list.
    `is_local`: it runs on the operator's own machines. `is_sandbox`: its answers are made up.
    """

    name: str
    title: str
    base_url: str
    api_key_env: str
    format: str = OPENAI_CHAT
    auth: Auth = Auth.BEARER
    api_key_env_fallbacks: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    setting_headers: Mapping[str, str] = field(default_factory=dict)
    quirks: Quirks = ANY
    models_path: str = "/models"
    credential_path: str = ""
    accepts_unlisted_models: bool = False
    is_local: bool = False
    is_sandbox: bool = False

    @property
    def needs_key(self) -> bool:
        """Whether requests need a key."""
        return self.auth.needs_key

    @property
    def api_key_envs(self) -> tuple[str, ...]:
        """The environment variables of the key, in order of preference."""
        return (self.api_key_env, *self.api_key_env_fallbacks)

    def is_own_host(self, base_url: str) -> bool:
        """Returns whether an address is this machine or, over https, the vendor's own host or a
        subdomain. The key in the vendor's variable and the values of its `setting_headers` may
        be sent only there."""
        parts = urlsplit(base_url)
        host = parts.hostname or ""
        if host in _LOOPBACK_HOSTS:
            return True
        own = urlsplit(self.base_url).hostname or ""
        return parts.scheme == "https" and (host == own or host.endswith(f".{own}"))

    def quirks_at(self, base_url: str) -> Quirks:
        """Returns the quirks that apply at an address. A server that only speaks the vendor's
        format would ignore `thread`, and answer the last turn as if it were the whole
        conversation. A sandbox that is not running is to be started at its port."""
        if self.is_sandbox:
            return replace(self.quirks, unreachable_hint=_start_sandbox(base_url, self.base_url))
        if not self.quirks.holds_threads or self.is_own_host(base_url):
            return self.quirks
        return replace(self.quirks, holds_threads=False)

    def path_hint(self, base_url: str) -> str:
        """Returns a hint if `base_url` seems to lack the vendor's path or to repeat a part that the
        wire format adds; empty otherwise."""
        path = urlsplit(base_url).path.rstrip("/")
        own = urlsplit(self.base_url).path
        if own and base_url and not path:
            return f"The base URL has no path; at this vendor it usually ends with {own}."
        if not own and path.endswith("/v1"):
            return "The base URL must not end with /v1; it is appended automatically."
        return ""


def _start_sandbox(base_url: str, default: str) -> str:
    try:
        port = urlsplit(base_url).port
    except ValueError:
        port = None
    option = "" if port in (None, urlsplit(default).port) else f" --port {port}"
    return f"If the sandbox is not running, start it: python manage.py llm_sandbox{option}"
