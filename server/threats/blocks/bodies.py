"""Blocks as the API reads and shows them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ledger.entry import format_time, rfc3339
from ledger.shapes import TimeText
from server.threats.blocks.entry_kinds import BlockIdText, NetworkText
from server.threats.blocks.listing import ListedBlock
from server.threats.blocks.rules import MAX_HOURS

AddressText = Annotated[str, Meta(min_length=1, max_length=50, examples=["192.0.2.7"])]
BlockReason = Annotated[str, Meta(min_length=1, max_length=500, examples=["tries keys"])]


class BlockAddress(Struct, forbid_unknown_fields=True):
    """An address whose requests are to be refused."""

    address: AddressText
    """An IP address; of IPv6 all addresses of its /64 are blocked, which may be given as such."""
    reason: BlockReason
    """Why, which becomes part of an entry: 1 to 500 characters, without the address."""
    hours: Annotated[int, Meta(ge=1, le=MAX_HOURS, examples=[24])] = 1
    """How long."""


class BlockBody(Struct):
    """A block that is in force."""

    id: BlockIdText
    """The id of the block."""
    address: AddressText | None
    """The address, or the IPv6 /64; null: it was deleted meanwhile (QUIRE_ADDRESS_DAYS)."""
    network: NetworkText
    """The network around it: a /24 of IPv4, a /48 of IPv6."""
    reason: BlockReason | None
    """Why it is blocked; null where the row is not authentic."""
    blocked_by: Annotated[str, Meta(examples=["key:9f86d081884c7d65"])] | None
    """The API key; "operator" by the command line, "server" by itself; null as for the reason."""
    blocked_at: TimeText
    """Since when; of an extended block, when it was extended."""
    until: TimeText
    """When it ends."""
    level: Annotated[int, Meta(ge=0, examples=[0])]
    """How many blocks in a row the server made by itself; 0: none."""
    authentic: Annotated[bool, Meta(examples=[True])]
    """False: the row was changed or removed in the database. The block is in force all the same."""


class BlockListBody(Struct):
    """A page of blocks."""

    blocks: list[BlockBody]
    """The blocks in force, in the order of their ids."""
    next_cursor: Annotated[str, Meta(examples=["5f0c7e12a94b38d6"])] | None
    """The cursor of the next page; null: this is the last one."""


def block_body(listed: ListedBlock) -> BlockBody:
    """Return a block for the API."""
    block, found = listed.block, listed.state.row
    return BlockBody(
        block.id,
        listed.address,
        block.network,
        None if found is None else found.reason,
        None if found is None else found.blocked_by,
        format_time(block.since_us) if found is None else rfc3339(found.blocked_at),
        format_time(block.until_us),
        block.level,
        found is not None,
    )
