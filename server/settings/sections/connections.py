"""How many connections a server process has, and how fast each must move its bytes."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, kw_only=True, repr=False)
class ConnectionSettings:
    """The limits of connections."""

    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Connections of one server process; beyond them idle ones give way, and "
            "some more are kept for /livez and /readyz",
        ),
    ] = 2_048
    address_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Connections of one server process from one IPv4 address or one IPv6 /64; "
            "loopback and trusted proxies have no such limit",
        ),
    ] = 512
    least_rate: Annotated[
        int,
        Meta(
            ge=1,
            le=1 << 30,
            description="Bytes a second that a request body must arrive with, and an answer be read "
            "with, on average",
        ),
    ] = 65_536
    patience_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="Seconds for a request head, and by which a body or an answer may be behind "
            "the least rate",
        ),
    ] = 30.0
