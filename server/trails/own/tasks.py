"""The tasks of a worker that record what callers did, and seal security events."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog

from ledger.core.lasting import GRACE_S, Lasting
from ledger.errors import QuireError
from server.trails.services import Services

log = structlog.get_logger("quire")

FLUSH_S: Final = 5.0
"""A crash loses the reads and refusals of so many seconds."""


async def store_acts(services: Services) -> None:
    """Store every few seconds what this process counted."""
    trouble = Lasting("what callers read can't be stored", "it is stored again", grace_s=GRACE_S)
    while True:
        await asyncio.sleep(FLUSH_S)
        try:
            await services.own.flush()
        except QuireError as error:
            trouble.failed(log.warning, str(error), early=log.info)
        else:
            trouble.fine()


async def seal_events(services: Services) -> None:
    """Seal security events that are due; every process does it, and each event is sealed once."""
    trouble = Lasting(
        "security events are not sealed", "security events are sealed", grace_s=GRACE_S
    )
    pause_s = services.settings.own_entries_seconds / 3
    while True:
        await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            await services.sealing.seal_due()
        except QuireError as error:
            trouble.failed(log.warning, str(error), early=log.info)
        else:
            trouble.fine()


async def tell_acts(services: Services) -> None:
    """Write as entries what is due; every process does it, and each act is told once."""
    trouble = Lasting("what callers read is not recorded", "it is recorded", grace_s=GRACE_S)
    pause_s = services.settings.own_entries_seconds / 3
    while True:
        # Processes of one machine start together; they need not do this together.
        await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            await services.own.write_due()
        except QuireError as error:
            trouble.failed(log.warning, str(error), early=log.info)
        else:
            trouble.fine()
