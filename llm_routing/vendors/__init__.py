"""Vendors as rows: format, address, authentication, quirks, and where models are listed.

Keys and settings are elsewhere.
"""

from .rows import VENDORS
from .vendor import Auth, Vendor

__all__ = ["VENDORS", "Auth", "Vendor"]
