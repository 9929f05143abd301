"""Inline data as `data:` URLs (RFC 2397), and the content part that its media type stands for."""

from base64 import b64decode
from binascii import Error

from llm_routing.core.content import FilePart, ImagePart, Part, TextPart

PDF = "application/pdf"


def split_data_url(url: str) -> tuple[str, str] | None:
    """Returns the media type and the base64 data of a `data:` URL, or None for anything else."""
    head, comma, data = url.partition(",")
    scheme, colon, described = head.partition(":")
    media_type, *parameters = described.split(";")
    if scheme.lower() != "data" or not colon or not comma:
        return None
    if not media_type or "base64" not in parameters:
        return None
    return media_type.lower(), data


def part_of_data(media_type: str, data: str, name: str | None = None) -> Part | None:
    """Returns an image, text or file part, or None for a text that cannot be decoded."""
    if media_type.startswith("image/"):
        return ImagePart(data=data, media_type=media_type)
    if not media_type.startswith("text/"):
        return FilePart(data=data, media_type=media_type, name=name)
    try:
        text = b64decode(data, validate=True).decode()
    except (Error, UnicodeDecodeError):
        return None
    return TextPart(f"{name}\n\n{text}" if name else text)
