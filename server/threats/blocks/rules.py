"""The rules of blocks: which addresses can be blocked, for how long, and when one is blocked again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from ipaddress import IPv6Network
from typing import Final

from ledger.core.register import RecordedBlock
from ledger.errors import ProblemType, QuireError
from server.addresses import SITE_BITS, ClientAddress, Network, client, contains, network

EVENTS: Final = 5
"""Events of one address, each of :data:`SCORE` or more, for which it is blocked."""
SCORE: Final = 75
WINDOW: Final = timedelta(minutes=10)
"""The time in which they happen."""
FIRST_HOURS: Final = 1
LONGEST_HOURS: Final = 24
MEMORY: Final = timedelta(days=7)
"""A block that follows the end of another one so soon lasts twice as long, up to 24 h."""
MAX_HOURS: Final = 720
"""The longest block by hand."""
SAME: Final = timedelta(minutes=1)
"""A block that would end so little later than the present one is the same: its request is a replay."""
MAX_LIVE: Final = 10_000
"""Addresses that are blocked at once."""
_US: Final = timedelta(microseconds=1)


class AddressExempt(QuireError):
    """The address may not be blocked."""

    problem_type = ProblemType(
        "address-exempt",
        409,
        "The address is never blocked",
        "127.0.0.1 is never blocked: it is of this machine, of a trusted proxy "
        "(QUIRE_TRUSTED_PROXIES), or exempt (QUIRE_BLOCK_EXEMPT)",
    )


def address_of_text(text: str) -> ClientAddress:
    """Return the address that a text is, or that stands for an IPv6 /64. Raises ValueError."""
    try:
        found = network(text)
    except ValueError:
        raise ValueError(
            "must be an IP address, or an IPv6 range of 64 bits such as 2001:db8:1:2::/64"
        ) from None
    least = SITE_BITS if isinstance(found, IPv6Network) else found.max_prefixlen
    if found.prefixlen not in {least, found.max_prefixlen}:
        raise ValueError(
            "must be one IP address or an IPv6 /64: refuse larger ranges at your firewall or proxy"
        )
    return client(found.network_address)


def require_blockable(address: ClientAddress, exempt: Iterable[Network]) -> None:
    """Raise AddressExempt for an address that is never blocked."""
    if contains(exempt, address.ip):
        raise AddressExempt(
            f"{address} is never blocked: it is of this machine, of a trusted proxy "
            "(QUIRE_TRUSTED_PROXIES), or exempt (QUIRE_BLOCK_EXEMPT)"
        )


def next_level(last: RecordedBlock | None, now_us: int) -> int:
    """Return the level of a block that the server makes itself, after the last one of the address.

    A block that was lifted was a mistake: it does not count.
    """
    if last is None or last.lifted_us or now_us - last.until_us > MEMORY // _US:
        return 1
    return last.level + 1


def kept_level(last: RecordedBlock | None, now_us: int) -> int:
    """Return the level of a block by hand: it counts for nothing, but does not end the memory."""
    return next_level(last, now_us) - 1


def lasts(level: int) -> timedelta:
    """Return how long a block of a level lasts: 1, 2, 4 h and so on, up to 24."""
    return timedelta(hours=min(LONGEST_HOURS, FIRST_HOURS << min(level - 1, 8)))


def counts_from_us(last: RecordedBlock | None, now_us: int) -> int:
    """Return from when on events of an address count: none from before its last block ended."""
    after = 0 if last is None else last.lifted_us or last.until_us
    return max(now_us - WINDOW // _US, after)
