"""Seals values with AES-GCM, or signs them with HMAC, for other processes to read.

AES-GCM (NIST SP 800-38D) costs a tenth of Fernet and binds a token to the name under which it is
stored. Keys come from `at_rest`.
"""

import hmac
import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from itertools import count
from weakref import WeakSet

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from llm_routing.system.forks import Stage, forks

SALT_BYTES = 16
NONCE_BYTES = 12
SIGNATURE_BYTES = 16
MAX_SALTS = 256
_INFO = b"llm_routing sealing"


class Sealing:
    """Implements `core.ports.Cipher`. Encrypts with the first of `keys`, which belong to one
    purpose, and decrypts with any of them.

    Each process derives its own key from a random salt (RFC 5869), which is the prefix of its
    tokens. So a counter is a nonce that never repeats.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)
        self._known: dict[bytes, tuple[AESGCM, ...]] = {}
        self.renew()
        _all.add(self)

    def renew(self) -> None:
        """Draws a new salt; a forked child must call this."""
        self._salt = os.urandom(SALT_BYTES)
        self._cipher = self._derive(self._keys[0], self._salt)
        self._numbers = count()

    def encrypt(self, clear_text: str, name: str) -> str:
        """See `Cipher`."""
        nonce = next(self._numbers).to_bytes(NONCE_BYTES, "big")
        sealed = self._cipher.encrypt(nonce, clear_text.encode(), name.encode())
        return b2a_base64(self._salt + nonce + sealed, newline=False).decode("ascii")

    def decrypt(self, token: str, name: str) -> str:
        """See `Cipher`."""
        bound_to = name.encode()
        data = a2b_base64(token, strict_mode=True)
        salt, rest = data[:SALT_BYTES], data[SALT_BYTES:]
        for cipher in self._ciphers(salt):
            try:
                return cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], bound_to).decode()
            except InvalidTag:
                continue
        raise ValueError("this was sealed with another key or under another name")

    def _ciphers(self, salt: bytes) -> tuple[AESGCM, ...]:
        known = self._known.get(salt)
        if known is None:
            if len(self._known) >= MAX_SALTS:
                self._known.clear()
            known = self._known[salt] = tuple(self._derive(key, salt) for key in self._keys)
        return known

    @staticmethod
    def _derive(key: bytes, salt: bytes) -> AESGCM:
        return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=_INFO).derive(key))


class Signing:
    """Implements `core.ports.Signer` with HMAC-SHA-256. Signs with the first of `keys`, which
    belong to one purpose, and accepts any of them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def sign(self, text: str, name: str) -> str:
        """See `Signer`."""
        return _signature(self._keys[0], text, name).hex()

    def is_signed(self, text: str, name: str, signature: str) -> bool:
        """See `Signer`."""
        given = signature.encode("utf-8", "replace")
        return any(
            hmac.compare_digest(given, _signature(key, text, name).hex().encode())
            for key in self._keys
        )


def _signature(key: bytes, text: str, name: str) -> bytes:
    # The length prefix separates the two parts, whatever bytes they contain.
    data = f"{len(name)} {name}{text}".encode("utf-8", "surrogatepass")
    return hmac.digest(key, data, "sha256")[:SIGNATURE_BYTES]


_all: WeakSet[Sealing] = WeakSet()


def _renew_all() -> None:
    for sealing in _all:
        sealing.renew()


forks.add(Stage.SEALING, _renew_all)
