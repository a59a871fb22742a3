"""The tasks of a worker about blocks."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from ledger.core.lasting import GRACE_S, Lasting
from ledger.entry import to_datetime
from ledger.errors import ClockUnsteady, QuireError, StorageError
from server.threats.blocks.automatic import AutomaticBlocks
from server.threats.blocks.book import address_book
from server.threats.blocks.parts import block_changes, block_list
from server.threats.blocks.settings import BlockSettings
from server.trails.services import Services

log = structlog.get_logger("quire")

RULE_S: Final = 2.0
COMPARE_S: Final = 60.0
EXPIRE_S: Final = 3_600.0
AGAIN_S: Final = 60.0
ROW_KEPT: Final = timedelta(days=60)
"""Rows of blocks that began so long ago are removed, once the register has forgotten the block."""


async def block_addresses(services: Services) -> None:
    """Block addresses with many serious events, every two seconds."""
    events = services.settings.of(BlockSettings).block_events
    if not events:
        return
    rule = AutomaticBlocks(
        services.database,
        services.part(block_changes),
        services.blocked,
        services.part(address_book),
        events,
    )
    trouble = Lasting("addresses are not blocked", "addresses are blocked again", grace_s=GRACE_S)
    while True:
        await asyncio.sleep(RULE_S)
        try:
            for made in await rule.apply():
                log.warning(
                    "an address is blocked",
                    network=made.block.network,
                    block=made.block.id,
                    until=to_datetime(made.block.until_us).isoformat(),
                )
        except QuireError as error:
            trouble.failed(log.warning, str(error), early=log.info)
        else:
            trouble.fine()


async def store_addresses(services: Services) -> None:
    """Store the addresses that events name by a digest."""
    await services.part(address_book).keep_storing()


async def compare_block_rows(services: Services) -> None:
    """Report rows of blocks that were changed, made or removed in the database."""
    trouble = Lasting("rows of blocks are not compared", "they are compared again", grace_s=GRACE_S)
    while True:
        await asyncio.sleep(COMPARE_S)
        try:
            await services.part(block_list).compare()
        except StorageError as error:
            trouble.failed(log.info, str(error))
        else:
            trouble.fine()


async def delete_addresses(services: Services) -> None:
    """Delete addresses after their time, and the rows of blocks that ended long ago."""
    days = services.settings.of(BlockSettings).address_days
    trouble = Lasting("addresses are not deleted", "addresses are deleted again", grace_s=GRACE_S)
    while True:
        pause_s = EXPIRE_S
        try:
            now = services.clock.settled()  # deleting can't be undone: a wrong clock must not do it
            await services.part(address_book).expire(now, days)
            await services.part(block_changes).forget(now - ROW_KEPT)
        except ClockUnsteady as error:
            pause_s = min(error.retry_after, EXPIRE_S)
        except StorageError as error:
            trouble.failed(log.warning, str(error), early=log.info)
            pause_s = AGAIN_S
        else:
            trouble.fine()
        await asyncio.sleep(pause_s)
