"""Keys of cached answers: digests prefixed with their tenant's."""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b


def digest(secret: bytes, parts: Iterable[str | bytes]) -> str:
    """Returns 64 hex digits over `parts`. Each part is preceded by its length, so that different
    lists of parts never collide. Keyed with `secret` (at most 64 bytes), so that only its holders
    can test a guess."""
    return begun_digest(secret, parts).hexdigest()


def begun_digest(secret: bytes, parts: Iterable[str | bytes]) -> blake2b:
    """Returns the digest over `parts`, to be copied and updated with more `framed` parts."""
    return blake2b(framed(parts), key=secret, digest_size=32)


def owned_key(secret: bytes, tenant: str, key: str) -> str:
    """Prefixes `key`, a digest, with the tenant's; `owner_of` returns the prefix."""
    return f"{_owner(secret, tenant)}.{key}"


def owner_of(key: str) -> str:
    """Returns the owner of a key, or an empty string."""
    return key.rpartition(".")[0]


@lru_cache(maxsize=1024)
def _owner(secret: bytes, tenant: str) -> str:
    return digest(secret, ("tenant", tenant))[:16]


def framed(parts: Iterable[str | bytes]) -> bytes:
    """Joins `parts`, each preceded by its length."""
    pieces: list[bytes] = []
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        pieces.append(len(data).to_bytes(8, "big"))
        pieces.append(data)
    return b"".join(pieces)
