"""Checks of upstream addresses: public IP addresses and valid base URLs.

Nothing is resolved here: the transport checks every resolved address, the models check operators'
input.
"""

import re
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# `is_global` is not used because its result for these differs between Python releases.
_SPECIAL = tuple(
    ip_network(network)
    for network in (
        "100.64.0.0/10",  # carrier-grade NAT
        # A public address that serves a cloud's metadata and agent endpoints:
        "168.63.129.16/32",
        "192.0.0.0/24",  # IETF protocols
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # automatic multicast tunneling
        "192.88.99.0/24",  # 6to4 relays
        "192.175.48.0/24",  # AS112
        "224.0.0.0/4",  # multicast
        "2001::/23",  # IETF protocols, Teredo among them
        "2001:db8::/32",  # documentation
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_ADVICE = (
    "To allow it, add {network} to the variable LLM_ALLOWED_UPSTREAM_NETWORKS, or to "
    "ALLOWED_UPSTREAM_NETWORKS in LLM_ROUTING."
)
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?!.{{255}})({_LABEL}\.)*[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?\.?")


def address_problem(
    ip: str, allowed_networks: Iterable[Network], *, is_encrypted: bool = True
) -> str:
    """Returns why the gateway must not connect to `ip`, as a sentence; empty if it may.

    Addresses within `allowed_networks` are allowed, and public ones with encryption, so that keys
    and prompts do not cross the internet in plain text.

    Loopback, private, link-local (including cloud metadata), carrier-grade NAT, multicast,
    unspecified and reserved addresses are not public. An IPv6 address that represents an IPv4
    address (mapped, RFC 4291; 6to4, RFC 3056; NAT64, RFC 6052) is judged as that one. Text that is
    not an address is rejected.
    """
    try:
        address = _destination(ip_address(ip.partition("%")[0]))
    except ValueError:
        return f"{ip} is not an IP address."
    if any(address in network for network in allowed_networks):
        return ""
    if not _is_public(address):
        return f"The address {ip} is not public. {_advice(address)}"
    if not is_encrypted:
        return (
            f"http:// would send the key and the prompts to the public address {ip} unencrypted. "
            f"Use https://. {_advice(address)}"
        )
    return ""


def _advice(address: Address) -> str:
    if not address.is_loopback:
        return _ADVICE.format(network="its network")
    return _ADVICE.format(network="127.0.0.0/8" if address.version == 4 else "::1/128")


def check_base_url(url: str, allowed_networks: Iterable[Network]) -> None:
    """Accepts a base URL with http or https, a host and a path.

    Raises `ValueError` with a message for the operator that never repeats the URL. Names are not
    resolved; the transport checks the resolved addresses.
    """
    if not url.isascii() or any(character <= " " or character in "\\\x7f" for character in url):
        raise ValueError(
            "The URL contains a space, a backslash or a non-ASCII character. Write a non-ASCII "
            "host in its xn-- form."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("This is not a URL: its host or port is malformed.") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("The URL must begin with https:// or http:// and name a host.")
    if "@" in parts.netloc:
        raise ValueError(
            "The URL must not contain a user name or a password. Enter the key in its own field."
        )
    if "?" in url or "#" in url:
        raise ValueError("The URL must end with its path, without “?” or “#”.")
    if port == 0:
        raise ValueError("Port 0 is not valid.")
    _check_host(parts.hostname or "", allowed_networks, is_encrypted=parts.scheme == "https")


def _check_host(host: str, allowed_networks: Iterable[Network], *, is_encrypted: bool) -> None:
    name = host.rstrip(".").lower()
    ip = "127.0.0.1" if name == "localhost" or name.endswith(".localhost") else host
    try:
        ip_address(ip)
    except ValueError:
        # The last label of a name begins with a letter, so 127.1, 0x7f000001 and other spellings of
        # addresses are not names.
        if not _HOST_NAME.fullmatch(host):
            raise ValueError("The URL's host is neither a name nor an IP address.") from None
        return
    if problem := address_problem(ip, allowed_networks, is_encrypted=is_encrypted):
        raise ValueError(problem)


def _destination(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[12:])
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not any(address in network for network in _SPECIAL)
