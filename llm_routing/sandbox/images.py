"""Describes an image for the answer: its type and size, or its URL."""

import base64
import binascii
import re

from .fields import BadRequest

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
_MEDIA_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def describe_url(url: str, param: str) -> str:
    """Returns `image/png of 68 bytes` for a data URL, `an https link` for a link. Nothing is
    fetched."""
    data = _DATA_URL.fullmatch(url)
    if data is not None:
        return describe_base64(data[1], data[2], param)
    scheme = url.partition("://")[0].lower()
    if scheme not in ("http", "https"):
        raise BadRequest(f"Invalid '{param}': expected an http, https or base64 data URL.", param)
    return f"an {scheme} link"


def describe_base64(media_type: str, data: str, param: str) -> str:
    """Returns `image/png of 68 bytes`. Raises `BadRequest` for another type or invalid base64."""
    if media_type not in _MEDIA_TYPES:
        known = ", ".join(sorted(_MEDIA_TYPES))
        raise BadRequest(f"Invalid '{param}': the image has to be one of {known}.", param)
    try:
        size = len(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"Invalid '{param}': the image is no valid base64.", param) from error
    return f"{media_type} of {size} bytes"
