"""The settings of blocks."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class BlockSettings:
    """When the server blocks an address by itself, and how long addresses are kept."""

    block_events: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000,
            description="Security events of one address with a score of 75 or more within 10 minutes "
            "for which it is blocked; 0: no address is blocked by the server itself",
        ),
    ] = 5
    address_days: Annotated[
        int,
        Meta(
            ge=1,
            le=365,
            description="Days after which the address of a block or a security event is deleted; what "
            "remains is a keyed digest and the network around it",
        ),
    ] = 30
