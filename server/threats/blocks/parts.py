"""The parts of blocks that live as long as their process; made by :meth:`Services.part`."""

from __future__ import annotations

from server.threats.blocks.book import address_book
from server.threats.blocks.changes import BlockChanges
from server.threats.blocks.listing import BlockList
from server.trails.services import Services


def block_changes(services: Services) -> BlockChanges:
    """Return what makes and lifts blocks in this process."""
    return BlockChanges(services.administration, services.blocked)


def block_list(services: Services) -> BlockList:
    """Return what lists blocks in this process."""
    return BlockList(
        services.register,
        services.part(block_changes),
        services.blocked,
        services.part(address_book),
    )
