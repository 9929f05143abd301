"""The request header `Cache-Control`, as far as it affects the response cache (RFC 9111, section
5.2.1).

It only restricts what the body allows.
"""

from msgspec.structs import replace

from llm_routing.core.types import LLMRequest


def with_cache_control(request: LLMRequest, header: str | None) -> LLMRequest:
    """Applies the header to the request: `no-store` bypasses the cache, `no-cache` skips reading
    and stores the new response, `max-age` limits the age of a cached response in seconds. Other
    directives and malformed ones are ignored."""
    if not header:
        return request
    directives = dict(_directive(part) for part in header.split(","))
    if "no-store" in directives:
        return replace(request, cache=False)
    max_age = directives.get("max-age", "")
    seconds = int(max_age) if max_age.isascii() and max_age.isdigit() else None
    if "no-cache" in directives or seconds == 0:
        return replace(request, cache_refresh=True)
    if seconds is None:
        return request
    known = request.cache_ttl
    return replace(request, cache_ttl=seconds if known is None else min(known, seconds))


def _directive(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name.strip().lower(), value.strip().strip('"')[:10]
