"""The limits of connections: how many there may be, and how fast each must move its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from server.addresses import Network, address, client, contains, network

HEALTH_PATHS: Final = frozenset({b"/livez", b"/readyz"})
RESERVED_CONNECTIONS: Final = 32
KEEP_ALIVE_S: Final = 75.0
LINGER_S: Final = 5.0
SWEEP_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """The limits of the connections of one process.

    ``patience_s`` is how long a connection may take for a request head, and how far a body or an
    answer may fall behind ``least_rate`` (bytes a second). ``idle_s`` is the longest pause
    between two requests, ``linger_s`` the time for the unread rest of a body after an early
    answer. ``reserve`` connections more than ``connections`` get answers on ``reserved_paths``
    alone. ``trusted`` networks have no limit per address; loopback addresses have none either.
    """

    connections: int = 2_048
    per_address: int = 512
    reserve: int = RESERVED_CONNECTIONS
    reserved_paths: frozenset[bytes] = HEALTH_PATHS
    trusted: tuple[str, ...] = ()
    least_rate: int = 65_536
    patience_s: float = 30.0
    idle_s: float = KEEP_ALIVE_S
    linger_s: float = LINGER_S

    @property
    def sweep_s(self) -> float:
        """The time between two checks of all connections."""
        return min(SWEEP_S, self.patience_s / 4, self.linger_s / 2)

    def group_of(self, host: str | None) -> str | None:
        """Return the address whose connections count together; None for one without a limit."""
        return None if host is None else _group(host, self.trusted)


@lru_cache(maxsize=4_096)
def _group(host: str, trusted: tuple[str, ...]) -> str | None:
    try:
        ip = address(host.partition("%")[0])
    except ValueError:
        return None  # a Unix socket: whoever may open it is trusted
    if ip.is_loopback or contains(_networks(trusted), ip):
        return None
    return client(ip).group


@lru_cache(maxsize=16)
def _networks(trusted: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(network, trusted))
