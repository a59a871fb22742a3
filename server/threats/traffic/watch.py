"""Looks at the traffic three times a minute: stores what this process counted, and judges."""

from __future__ import annotations

from ledger.errors import ClockUnsteady
from server.threats.blocks.book import address_book
from server.threats.settings import ThreatSettings
from server.threats.store import newly_told
from server.threats.traffic.anomalies import DAY_MINUTES, AnomalyRules
from server.threats.traffic.counting import TrafficCounting
from server.threats.traffic.history import TrafficHistory
from server.threats.traffic.judging import ODD_ADDRESS, grown_days, odd_now
from server.threats.writing import EventWriter, PlannedEvent
from server.trails.services import Services


class TrafficWatch:
    """The watch of one process: ``services.part(TrafficWatch)``."""

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._counting = services.part(TrafficCounting)
        self._writer = services.part(EventWriter)
        self._book = services.part(address_book)
        self._callers = services.callers
        self._settled = services.clock.settled
        self._settings = services.settings.of(ThreatSettings)
        self._kept_hour = -1

    @property
    def rules(self) -> AnomalyRules:
        """From when on something is odd, by the settings."""
        return AnomalyRules(self._settings.anomaly_deviations, self._settings.anomaly_events)

    async def look(self, minute: int | None = None) -> None:
        """Store what was counted, judge if no other process does, and write the events.

        Addresses whose refusals are odd are noted, so that they can be blocked.
        Raises DatabaseUnavailable.
        """
        await self._counting.store()
        await self._writer.write(await self._judged(minute or self._counting.minute()))
        # The process that judges need not be the one that saw the address.
        for digest in await newly_told(self._database, ODD_ADDRESS):
            address = self._counting.address_of(digest)
            if address is not None:
                self._book.note(address)

    async def _judged(self, minute: int) -> list[PlannedEvent]:
        system_id = self._callers.system_id
        async with self._database.transaction() as connection:
            history = TrafficHistory(connection)
            if not system_id or not await history.lead():
                return []
            # The present minute too: what is odd already does not wait for its end.
            found = await odd_now(history, minute - 1, self.rules, system_id)
            found += await odd_now(history, minute, self.rules, system_id)
            await history.bound(self._settings.traffic_subjects)
            if minute // 60 != self._kept_hour:
                await history.compact(minute)
                found += await grown_days(history, minute // DAY_MINUTES, self.rules, system_id)
                await self._forget(history)
        self._kept_hour = minute // 60
        return found

    async def _forget(self, history: TrafficHistory) -> None:
        """Delete what is old, unless the clock was wrong lately: a wrong one must not decide it."""
        try:
            await history.forget(int(self._settled().timestamp() // 60))
        except ClockUnsteady:
            return
