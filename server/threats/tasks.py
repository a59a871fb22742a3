"""The tasks of a worker about threats, beside requests."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from ledger.core.lasting import GRACE_S, Lasting
from ledger.errors import ClockUnsteady, StorageError
from server.threats import store
from server.threats.settings import ThreatSettings
from server.threats.traffic.counting import TrafficCounting
from server.threats.traffic.watch import TrafficWatch
from server.threats.writing import DAY, EventWriter
from server.trails.services import Services

log = structlog.get_logger("quire")

FORGET_S: Final = 3_600.0
AGAIN_S: Final = 60.0
LAST_WRITE_S: Final = 3.0
"""How long the end of a server waits for the events of its last seconds."""


async def write_events(services: Services) -> None:
    """Write every few seconds what this process noted of its callers; the rest at its end."""
    trouble = Lasting(
        "security events about callers wait", "security events are written", grace_s=GRACE_S
    )
    writer = services.part(EventWriter)
    pause_s = services.settings.of(ThreatSettings).security_event_seconds
    await _repeat(pause_s, writer.write_noted, trouble, at_end=writer.write_noted)


async def _repeat(
    pause_s: float,
    act: Callable[[], Awaitable[object]],
    trouble: Lasting,
    *,
    at_end: Callable[[], Awaitable[object]],
) -> None:
    """Act after each pause, until it is cancelled; then once more for the rest."""
    try:
        while True:
            # Processes of one machine start together; they need not do this together.
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311
            try:
                await act()
            except StorageError as error:
                trouble.failed(log.warning, str(error), early=log.info)
            else:
                trouble.fine()
    finally:
        with contextlib.suppress(StorageError, TimeoutError):
            async with asyncio.timeout(LAST_WRITE_S):
                await at_end()


async def forget_old(services: Services) -> None:
    """Delete every hour the scores and counts that no level looks at any more."""
    trouble = Lasting("old threat scores stay", "old threat scores are deleted", grace_s=GRACE_S)
    while True:
        pause_s = FORGET_S
        try:
            minute = int(services.clock.settled().timestamp() // 60)
            await store.forget(services.database, minute - 2 * DAY)
        except (ClockUnsteady, StorageError) as error:
            trouble.failed(log.info, str(error))
            pause_s = AGAIN_S
        else:
            trouble.fine()
        await asyncio.sleep(pause_s)


async def watch_traffic(services: Services) -> None:
    """Store three times a minute what this process counted, and judge it; the rest at its end."""
    trouble = Lasting("traffic is not judged", "traffic is judged again", grace_s=GRACE_S)
    watch, counting = services.part(TrafficWatch), services.part(TrafficCounting)
    pause_s = services.settings.of(ThreatSettings).traffic_seconds
    await _repeat(pause_s, watch.look, trouble, at_end=counting.store)
