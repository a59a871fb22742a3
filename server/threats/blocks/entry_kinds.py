"""The entries that tell of blocks."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from ledger.shapes import TimeText
from server.feature import EntryKind
from server.trails.own.changes import Registered

_HERE: Final = "server.threats.blocks.entry_kinds:"
BLOCKED: Final = "quire.address_blocked"
UNBLOCKED: Final = "quire.address_unblocked"
BlockIdText = Annotated[str, Meta(examples=["5f0c7e12a94b38d6"])]
DigestText = Annotated[str, Meta(examples=["0f47c1b39a6de8255b7e90c4d1a8f362"])]
NetworkText = Annotated[str, Meta(examples=["192.0.2.0/24"])]


class AddressBlockedEntry(Registered, kw_only=True, omit_defaults=True):
    """Requests from an address are refused for some time; or for longer than before."""

    block: BlockIdText
    """The id of the block."""
    digest: DigestText
    """The address, as a digest under a key of the server; of IPv6 its /64."""
    network: NetworkText
    """The network around the address: a /24 of IPv4, a /48 of IPv6."""
    reason: Annotated[str, Meta(examples=["tries keys"])]
    """Why."""
    until: TimeText
    """When the block ends."""
    level: Annotated[int, Meta(ge=0, examples=[2])]
    """How many blocks in a row the server made by itself, this one included; 0: none."""


class AddressUnblockedEntry(Registered, kw_only=True, omit_defaults=True):
    """A block was lifted before its end."""

    block: BlockIdText
    """The id of the block."""
    digest: DigestText
    """The address, as a digest under a key of the server; of IPv6 its /64."""
    network: NetworkText
    """The network around the address: a /24 of IPv4, a /48 of IPv6."""
    until: TimeText
    """When the block would have ended."""


ENTRY_KINDS: Final = (
    EntryKind(
        BLOCKED,
        "In the trail `system`: an address was blocked, or for longer: who did it, why, until when.",
        f"{_HERE}AddressBlockedEntry",
    ),
    EntryKind(
        UNBLOCKED,
        "In the trail `system`: the block of an address was lifted.",
        f"{_HERE}AddressUnblockedEntry",
    ),
)
