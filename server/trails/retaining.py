"""Retention in a server: seals months, drops those that are due, one process at a time.

What it does to months it does as the login of retention; it records drops in the trail "system" as
the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ledger.archive.retention.run import DroppedMonth, Recorder, Retention
from ledger.errors import RetentionRefused
from ledger.keys import SigningKeyring
from ledger.storage import dropped_months, partitions
from ledger.storage.database import Database
from ledger.storage.entries import months
from server.access.directory import Directory
from server.settings import Settings
from server.trails.archive_targets import named_target, policy_of
from server.trails.clock import ServerClock
from server.trails.guarding import TrailGuard


class RetentionTask:
    """Seals months, and drops those that are due by the retention policy.

    ``retention_url`` is the URL of the login that may do so.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        retention_url: str,
        keyring: Callable[[bool], SigningKeyring],
        directory: Directory,
        guard: TrailGuard,
        clock: ServerClock,
        row_key: bytes,
    ) -> None:
        self._settings = settings
        self._database = database
        self._retention_url = retention_url
        self._keyring = keyring
        self._directory = directory
        self._guard = guard
        self._clock = clock
        self._row_key = row_key

    async def seal(self) -> None:
        """Seal the months that are over, and drop expired idempotency keys.

        Raises ClockUnsteady, StorageError.
        """
        await self._clock.compare(self._database)
        # Neither can be undone: a wrong clock must not decide them.
        now = self._clock.settled()
        await partitions.retire(self._retention_url, now, self._settings.idempotency_days)

    async def due(self) -> bool:
        """Return whether the policy no longer keeps a month."""
        return any(month.due for month in await months.present(self._database))

    async def run(
        self, report: Callable[[DroppedMonth], None] = lambda _: None
    ) -> list[DroppedMonth]:
        """Drop all due months. Raises RetentionRefused and other QuireErrors."""
        await self._clock.compare(self._database)
        self._clock.settled()
        url = self._settings.archive_target
        if url is None:
            raise RetentionRefused("nothing is archived here: set QUIRE_ARCHIVE_URL")
        async with dropped_months.exclusive(self._retention_url) as acquired:
            if not acquired:
                raise RetentionRefused("another process is dropping months; try again later")
            if not await self._guard.register.store_snapshot():
                raise RetentionRefused(
                    "no snapshot of the register could be stored, and without one no month of the "
                    'trail "system" may be dropped: the trail can\'t be read whole, or a row that was '
                    "planted in register_snapshots has its place. Verify the org system"
                )
            async with named_target(self._settings, url) as target:
                await target.check()
                recorder = Recorder(self._system, self._org)
                retention = Retention(
                    target,
                    self._database,
                    self._retention_url,
                    self._keyring,
                    recorder,
                    policy_of(self._settings),
                    self._row_key,
                    unlocked=self._settings.retention_unlocked,
                    clock=self._clock.seconds,
                )
                return await retention.run(report)

    async def _system(self, event: Mapping[str, Any]) -> int:
        org = await self._directory.system()
        return (await self._guard.record(org, event)).entries[0].seq

    async def _org(self, org_id: int, event: Mapping[str, Any]) -> None:
        org = await self._directory.by_id(org_id)
        if org is None:
            raise RetentionRefused(f"an org with entries in the month does not exist (id {org_id})")
        await self._guard.record(org, event)
