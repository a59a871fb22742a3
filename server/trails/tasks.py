"""The background tasks of a worker."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from ledger.core.lasting import GRACE_S, Lasting
from ledger.core.sequencer import HeadMemoryUnavailable
from ledger.errors import AppendRefused, ClockUnsteady, DatabaseUnavailable, StorageError
from ledger.storage import listen, partitions
from server.trails.services import Services

log = structlog.get_logger("quire")

FOLLOW_S: Final = 1.0
UPKEEP_S: Final = 3_600
UPKEEP_AGAIN_S: Final = 60
REPORT_S: Final = 86_400
SYNC_S: Final = 2.0


async def watch_clock(services: Services) -> None:
    """Compare the clock with other clocks."""
    await services.clock.watch(services.database)


async def watch_signed_trees(services: Services) -> None:
    """Wake the requests that wait for a checkpoint."""
    await services.growth.watch()


async def sync_heads(services: Services) -> None:
    """Write the acknowledged heads to the disk now and then, for the case of a power cut."""
    trouble = Lasting(
        "acknowledged heads are not on the disk", "acknowledged heads are on the disk"
    )
    while True:
        await asyncio.sleep(SYNC_S)
        try:
            await asyncio.to_thread(services.heads.sync)
        except HeadMemoryUnavailable as error:
            trouble.failed(log.error, str(error))
        else:
            trouble.fine()


async def watch_lateness(services: Services) -> None:
    """Report entries that wait too long for a checkpoint."""
    await services.lateness.watch()


async def follow_notifications(services: Services) -> None:
    """Drop cached values that another process changed."""

    def key_changed(key_id: str) -> None:
        services.authenticator.forget(key_id)
        services.live.changed()

    def missed() -> None:
        services.live.changed()
        services.authenticator.forget_all()
        services.directory.forget_all()
        services.growth.announced("")

    await listen.follow(
        services.database.url,
        {
            "quire_keys": key_changed,
            "quire_blocks": lambda _: services.live.changed(),
            "quire_orgs": services.directory.forget,
            "quire_limits": lambda _: services.live.changed(),
            "quire_checkpoints": services.growth.announced,
        },
        missed,
    )


async def end_revoked(services: Services) -> None:
    """End the streams and waiting requests of ended keys and blocked addresses."""
    await services.live.watch()


async def tell_rates(services: Services) -> None:
    """Tell other processes what callers used of rate limits, and learn what they know."""
    await services.limits.fast.keep_telling()


async def note_key_uses(services: Services) -> None:
    """Store when API keys were last used."""
    await services.key_uses.keep_storing()


async def report_key_endings(services: Services) -> None:
    """Report API keys that expire soon, or never: at the start, and once a day."""
    trouble = Lasting("ends of API keys are not reported", "ends of API keys are reported again")
    while True:
        pause_s: float = REPORT_S
        try:
            await services.key_endings.report(services.clock.moment())
        except (ClockUnsteady, StorageError) as error:
            trouble.failed(log.info, str(error))
            pause_s = UPKEEP_AGAIN_S
        else:
            trouble.fine()
        await asyncio.sleep(pause_s)


async def follow_register(services: Services) -> None:
    """Follow the trail `system`, so that a freeze by another process is known here soon.

    Freezes by the signer are recorded in it.
    """
    trouble = Lasting("the register waits", "the register is followed again", grace_s=GRACE_S)
    while True:
        try:
            await services.register.catch_up()
            await services.signer_freezes.record()
        except (StorageError, AppendRefused) as error:
            trouble.failed(log.warning, str(error), early=log.info)
        else:
            trouble.fine()
        await asyncio.sleep(FOLLOW_S)


async def keep_up(services: Services) -> None:
    """Create partitions ahead of time, drop old jobs; a missed hour is harmless."""
    trouble = Lasting("upkeep failed and is tried again", "upkeep works again", grace_s=GRACE_S)
    while True:
        pause_s: float = UPKEEP_S
        try:
            await partitions.prepare(services.database, services.clock.moment())
            # Expiring can't be undone: a wrong clock must not decide it.
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
