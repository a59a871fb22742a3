"""Whether requests from an address are refused: before anything else is looked at.

Blocks stand in the trail `system`, which every process follows within a second; a look at one needs
no query. Some addresses are never blocked, whatever anybody asked for or the database says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Final

from ledger.core.register import Register
from ledger.errors import ProblemType, QuireError
from server.addresses import (
    ClientAddress,
    Network,
    client_of,
    contains,
    digest_of,
    network,
    networks,
)
from server.settings import Settings

LOCAL: Final = (
    network("127.0.0.0/8"),
    network("::1"),
    network("0.0.0.0"),  # noqa: S104 - no listener: the peer of a Unix socket
    network("::"),
)
"""The addresses of the server's own machine."""
MAX_CACHED: Final = 4_096


class AddressBlocked(QuireError):
    """Requests from the address of the caller are refused for some time."""

    problem_type = ProblemType(
        "address-blocked",
        403,
        "Requests from this address are blocked",
        "requests from your address are refused for another 59 min 30 s (3570 seconds), as it was "
        "blocked; the operator of this server can lift that",
    )

    def __init__(self, left_s: int) -> None:
        super().__init__(
            f"requests from your address are refused for another {spelt(left_s)} ({left_s} "
            "seconds), as it was blocked; the operator of this server can lift that"
        )
        self.retry_after = left_s


def spelt(seconds: int) -> str:
    """Return a time in its two largest units, such as 3 h 20 min."""
    minutes, s = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (s, "s")]
    first = next((at for at, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"


class BlockedAddresses:
    """The blocks as one process knows them. ``now_us`` returns the time in µs since the Unix epoch."""

    def __init__(
        self,
        register: Register,
        address_key: bytes,
        exempt: Iterable[Network],
        now_us: Callable[[], int],
    ) -> None:
        self._digest_of = lru_cache(maxsize=MAX_CACHED)(partial(_digest_of_group, address_key))
        self.exempt = tuple(exempt)
        self.now_us = now_us
        self._register = register

    def digest(self, address: ClientAddress) -> str:
        """Return the digest of an address by which blocks and events name it."""
        return self._digest_of(address.group)

    def until_us(self, address: ClientAddress) -> int | None:
        """Return the end of the block of an address; None for one that is let in."""
        blocks = self._register.state.blocks
        if not blocks.last_end_us:  # there was never any: the usual case
            return None
        block = blocks.of(self._digest_of(address.group))
        if block is None or not block.is_live(self.now_us()) or contains(self.exempt, address.ip):
            return None
        return block.until_us

    def refusal(self, address: ClientAddress) -> AddressBlocked | None:
        """Return the refusal of a request from an address; None for one that is let in."""
        until_us = self.until_us(address)
        if until_us is None:
            return None
        return AddressBlocked(max(1, -((self.now_us() - until_us) // 1_000_000)))


def _digest_of_group(key: bytes, group: str) -> str:
    return digest_of(client_of(group), key)


def never_blocked(settings: Settings) -> tuple[Network, ...]:
    """Return the ranges that no block concerns: this machine, trusted proxies and the exempt."""
    return (*LOCAL, *networks(settings.trusted_proxies), *networks(settings.block_exempt))
