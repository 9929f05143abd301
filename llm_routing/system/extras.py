"""Optional dependencies: packages that only an extra of the distribution installs."""

from importlib.util import find_spec


def missing_extra(feature: str, extra: str, *modules: str) -> str:
    """Returns the message to show if a module that `feature` imports is not installed, or ""."""
    if all(find_spec(name) is not None for name in modules):
        return ""
    return f"{feature} needs an extra: pip install 'django-llm-routing[{extra}]'"
