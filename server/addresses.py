"""IP addresses in one normal form, their groups for counting, and ranges of them (CIDR).

An IPv4 address that is mapped into IPv6 (``::ffff:192.0.2.1``, RFC 4291, section 2.5.5.2) counts as
the IPv4 address, here and in every comparison with a range.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, NamedTuple, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAX_NETWORKS: Final = 1_000
SITE_BITS: Final = 64
"""The prefix of one IPv6 customer: whoever has it can use all addresses in it."""
DIGEST_BYTES: Final = 16
_MAX_CHARS: Final = 45
"""Characters of the longest text form of an address."""
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


class ClientAddress(NamedTuple):
    """The address of a client: ``ip`` for logs and ranges, ``group`` for counts and limits.

    The group of an IPv4 address is the address, that of an IPv6 address its /64.
    """

    ip: Address
    group: str

    def __str__(self) -> str:
        return str(self.ip)

    def is_in(self, networks: Iterable[Network]) -> bool:
        """Return whether one of these ranges contains the address."""
        return contains(networks, self.ip)


@lru_cache(maxsize=4_096)
def client(ip: Address) -> ClientAddress:
    """Return a client's address with its group."""
    if isinstance(ip, IPv4Address):
        return ClientAddress(ip, str(ip))
    return ClientAddress(ip, str(IPv6Network((ip, SITE_BITS), strict=False)))


def client_of(group: str) -> ClientAddress:
    """Return the address with this group; of an IPv6 /64, its first one. Raises ValueError."""
    return client(ip_network(group).network_address)


@lru_cache(maxsize=4_096)
def network_of(of: ClientAddress) -> str:
    """Return the network of an address, for records that name no person: a /24, of IPv6 a /48."""
    if isinstance(of.ip, IPv4Address):
        return str(IPv4Network((of.ip, 24), strict=False))
    return str(IPv6Network((of.ip, 48), strict=False))


def digest_of(of: ClientAddress, key: bytes) -> str:
    """Return the keyed digest of an address's group, 32 hex digits, for records that name no person.

    Only who has the key can find the address again. All addresses of an IPv6 /64 have one digest.
    """
    return hmac.digest(key, of.group.encode(), "sha256")[:DIGEST_BYTES].hex()


def address(text: str) -> Address:
    """Return the address that a text is, without port or zone. Raises ValueError."""
    if len(text) > _MAX_CHARS or "%" in text or not text.isascii():
        raise ValueError("this is not an IP address")
    found = ip_address(text)
    return (found.ipv4_mapped if isinstance(found, IPv6Address) else None) or found


def network(text: str) -> Network:
    """Return the range of a CIDR text; a single address is a range. Raises ValueError."""
    if "%" in text or not text.isascii():
        raise ValueError("this is not a range of IP addresses")
    found = ip_network(text)
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        mapped = IPv4Address(int(found.network_address) & 0xFFFF_FFFF)
        return IPv4Network((mapped, found.prefixlen - _MAPPED.prefixlen))
    return found


def networks(text: str) -> tuple[Network, ...]:
    """Return the ranges of a list with commas between them. Raises ValueError, which names the part."""
    parts = [part.strip() for part in text.split(",")]
    found = [_named(part) for part in parts if part]
    if len(found) > MAX_NETWORKS:
        raise ValueError(f"at most {MAX_NETWORKS:,} ranges can be given")
    return tuple(found)


def _named(part: str) -> Network:
    try:
        return network(part)
    except ValueError:
        shown = part[:_MAX_CHARS] if part.isascii() and part.isprintable() else "a part"
        hint = ""
        if "/" in part:
            hint = "; the bits after the prefix must be zero, as in 10.0.0.0/8"
        raise ValueError(f'"{shown}" is not an IP address or CIDR range{hint}') from None


def contains(networks: Iterable[Network], ip: Address) -> bool:
    """Return whether one of these ranges contains the address."""
    return any(ip in found for found in networks)
