"""Protection beyond Django's own: a content security policy and throttled sign-ins.

Both are small on purpose; a project of your own may use django-csp and django-axes.
"""

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from django.contrib.auth.signals import user_login_failed
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

logger = logging.getLogger("llm_routing.sign_in")

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
MAX_FAILURES = 10
WINDOW_SECONDS = 300

Handler = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def content_security_policy(get_response: Any) -> Handler:
    """Has browsers run and load what comes from this server alone, and no inline script."""
    from asgiref.sync import iscoroutinefunction

    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> HttpResponseBase:
            return _protected(await get_response(request))

        return asynchronous

    def synchronous(request: HttpRequest) -> HttpResponseBase:
        return _protected(get_response(request))

    return synchronous


def _protected(response: HttpResponseBase) -> HttpResponseBase:
    response.headers.setdefault("Content-Security-Policy", POLICY)
    return response


class SlowSignIns:
    """Refuses to sign anybody in from an address with many failures, before a password is hashed.

    Counted in Django's cache: with Redis for all workers together, else for each process. First in
    AUTHENTICATION_BACKENDS. It is the backend of no user, so it has nothing but `authenticate`.
    """

    def authenticate(self, request: HttpRequest | None, **_: Any) -> None:
        """Nobody. Raises `PermissionDenied`, which ends the sign-in, from such an address."""
        if request is not None and cache.get(_key(request), 0) >= MAX_FAILURES:
            raise PermissionDenied


@receiver(user_login_failed, dispatch_uid="project.security")
def count_failure(request: HttpRequest | None = None, **_: Any) -> None:
    """Counts a sign-in that failed. The window begins with the first one."""
    if request is None:
        return
    key = _key(request)
    if cache.add(key, 1, WINDOW_SECONDS):
        return
    try:
        failures = cache.incr(key)
    except ValueError:  # the window has just ended
        return
    if failures == MAX_FAILURES:
        logger.warning(
            "Sign-ins from %s are refused for up to %d s: %d have failed.",
            _address(request),
            WINDOW_SECONDS,
            failures,
        )


def _address(request: HttpRequest) -> str:
    """The client's address as the server reports it; of IPv6 the network that one client has."""
    given = str(request.META.get("REMOTE_ADDR") or "")
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        return "an unknown address"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return given


def _key(request: HttpRequest) -> str:
    return f"sign_in_failures:{_address(request).replace(' ', '_')}"
