"""What a worker does beside answering requests, for as long as it serves."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from ledger.core.lasting import GRACE_S, Lasting
from ledger.errors import ClockUnsteady, DatabaseUnavailable
from ledger.storage import listen, partitions
from server.trails.services import Services

log = structlog.get_logger("quire")

UPKEEP_S: Final = 3_600
UPKEEP_AGAIN_S: Final = 60


async def watch_clock(services: Services) -> None:
    """Hold the clock against what others say."""
    await services.clock.watch(services.database)


async def watch_signed_trees(services: Services) -> None:
    """Wake those who wait for a checkpoint."""
    await services.growth.watch()


async def retain(services: Services) -> None:
    """Let months leave the database, where a setting says so."""
    if services.settings.retention_months is not None:
        await services.retaining.watch()


async def follow_notifications(services: Services) -> None:
    """Drop what is cached once another process changed it."""

    def missed() -> None:
        services.authenticator.forget_all()
        services.directory.forget_all_public()
        services.growth.announced("")

    await listen.follow(
        services.database.url,
        {
            "quire_keys": services.authenticator.forget,
            "quire_orgs": services.directory.forget_public,
            "quire_checkpoints": services.growth.announced,
        },
        missed,
    )


async def keep_up(services: Services) -> None:
    """Partitions ahead of time; old ones, and old jobs, go. A missed hour harms nothing."""
    trouble = Lasting("upkeep failed and is tried again", "upkeep works again", grace_s=GRACE_S)
    while True:
        pause_s: float = UPKEEP_S
        try:
            await partitions.prepare(services.database, services.clock.moment())
            # What is sealed or dropped stays so: a clock that is wrong must not decide it.
            days = services.settings.idempotency_days
            await partitions.retire(services.database, services.clock.settled(), days)
            kept_days = services.settings.verification_days
            await services.verification_table.expire(services.clock.settled(), kept_days)
        except ClockUnsteady as error:
            pause_s = min(error.retry_after, UPKEEP_S)
        except DatabaseUnavailable as error:
            trouble.failed(log.warning, str(error), early=log.info)
            pause_s = UPKEEP_AGAIN_S
        else:
            trouble.fine()
        await asyncio.sleep(pause_s)
