"""Builds the credentials that a `RouterConfig` brings along."""

from collections.abc import Mapping

from llm_routing.conf import Settings
from llm_routing.configuration.credentials import build_credential, setting_values
from llm_routing.core.config import RouterConfig
from llm_routing.core.ports import Credential
from llm_routing.vendors import VENDORS


def credentials_of_config(config: RouterConfig, settings: Settings) -> Mapping[str, Credential]:
    """Returns the credentials of `config` by vendor."""
    values = dict(setting_values(settings))
    for name in ("portkey_config", "or_site_url", "or_app_name"):
        if (value := getattr(config, name)) is not None:
            values[name] = value
    keys = {"portkey": config.portkey_api_key, "openrouter": config.openrouter_api_key}
    found = {}
    for vendor, key in keys.items():
        if key is not None:
            credential = build_credential(VENDORS[vendor], key.get_secret_value(), values)
            if credential is not None:
                found[vendor] = credential
    return found
