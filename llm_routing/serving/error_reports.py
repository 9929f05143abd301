"""Filters secrets out of Django's error reports (the debug page, mail to ADMINS).

Django hides settings by their names. A URL may hold a password under any name.
"""

import re
from typing import Any

from django.views.debug import SafeExceptionReporterFilter

_USER = re.compile(r"(?<=://)[^/?#\s'\"]*@")
_PASSWORD = re.compile(r"(?i)([?&;](?:\w*pass\w*|\w*secret\w*|\w*token\w*|\w*key)=)[^&;\s'\"]*")


class ExceptionReporterFilter(SafeExceptionReporterFilter):
    """Django's filter, which also hides PORTKEY_CONFIG, and passwords in URLs wherever they are."""

    hidden_settings = re.compile(
        SafeExceptionReporterFilter.hidden_settings.pattern + "|PORTKEY_CONFIG", re.IGNORECASE
    )

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        """Like Django's, with passwords removed from URLs."""
        return self._without_passwords(super().cleanse_setting(key, value))

    def cleanse_special_types(self, request: Any, value: Any) -> Any:
        """Like Django's, for local variables; with passwords removed from URLs."""
        return self._without_passwords(super().cleanse_special_types(request, value))

    def _without_passwords(self, value: Any) -> Any:
        if isinstance(value, str) and "://" in value:
            hidden = self.cleansed_substitute
            return _PASSWORD.sub(rf"\1{hidden}", _USER.sub(f"{hidden}@", value))
        return value
