"""Stores what the recorder counted, and writes it as entries once it is due.

Stored rows survive a crash and wait while an org is frozen. An entry and the removal of the rows that
it tells are one transaction, so whatever process does it, each act is told once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import structlog

from ledger.core.lasting import LastingByKey
from ledger.core.org import OrgFacts
from ledger.core.reading.trail import TrailReader
from ledger.core.sealing.sealer import Sealer
from ledger.errors import (
    AppendRefused,
    DatabaseUnavailable,
    FormatError,
    OutcomeUnknown,
    QuireError,
    SealingError,
)
from ledger.storage.pending_acts import PendingAct, PendingActs, PendingGroup
from ledger.storage.trail import AppendTransaction
from server import metrics
from server.access.directory import Directory
from server.trails.guarding import TrailGuard
from server.trails.own.earlier_runs import EarlierRuns
from server.trails.own.payloads import READS, SERVER, ReadSummary
from server.trails.own.recorder import ActRecorder
from server.trails.own.server_runs import acts_of, first_starts, runs_told
from server.trails.own.staging import HOURLY, READ, RUN, read_row, rows_of
from server.trails.own.telling import Staged, hour_of, told
from server.trails.reading import EntryQuery, cursor_of, find, payload_bytes

log = structlog.get_logger("quire")

LATE: Final = timedelta(seconds=30)
"""How long after an hour its summary waits for the rows of other processes."""
MAX_WINDOWS: Final = 400
"""Windows that wait in memory while the database is away: half an hour of them."""
MAX_PAGES: Final = 100
"""Pages of a trail that are searched for the summary before."""


class ToldAlready(AppendRefused):
    """Another process told some of the rows; nothing was written."""


class OwnEntries:
    """What one process records of its callers; ``batch_s`` is the age at which acts are told."""

    def __init__(
        self,
        recorder: ActRecorder,
        pending: PendingActs,
        guard: TrailGuard,
        directory: Directory,
        trail: TrailReader,
        sealer: Sealer,
        runs: EarlierRuns,
        batch_s: float,
    ) -> None:
        self.recorder = recorder
        self._pending = pending
        self._guard = guard
        self._directory = directory
        self._trail = trail
        self._sealer = sealer
        self._runs = runs
        self._batch = timedelta(seconds=batch_s)
        self._waits = LastingByKey(
            "own entries of an org can't be written", "they are written again", quiet_s=batch_s
        )
        self._flushing = asyncio.Lock()
        self._unstored: deque[list[PendingAct]] = deque()

    async def flush(self) -> None:
        """Store what was counted. Raises StorageError, and keeps what could not be stored."""
        async with self._flushing:
            self._unstored.extend(list(rows_of(window)) for window in self.recorder.take())
            self._bound()
            while self._unstored:
                # If only the answer is lost, the same rows are stored again, which changes nothing.
                await self._pending.add(self._unstored[0])
                self._unstored.popleft()

    def _bound(self) -> None:
        """Report what did not fit into memory, and drop the oldest windows of too many."""
        lost, self.recorder.lost = self.recorder.lost, 0
        while len(self._unstored) > MAX_WINDOWS:
            lost += len(self._unstored.popleft())
        if lost:
            metrics.ACTS_LOST.inc(lost)
            log.warning("reads and refusals were too many to be recorded", lost=lost)

    async def write_due(self, now: datetime | None = None) -> int:
        """Write all that is due as entries; return their number.

        Raises StorageError for a database that is away; what hinders one org hinders no other.
        """
        now = now or datetime.now(UTC)
        written = 0
        for group in await self._pending.groups():
            before = self._due_before(group, now)
            if before is None:
                continue
            try:
                if self._guard.register.freeze_of(group.org_id) is not None:
                    continue  # the rows of a frozen org wait for its thaw
                while count := await self._write(group, before):
                    written += count
            except AppendRefused as error:
                log.info("own entries wait", org_id=group.org_id, kind=group.kind, why=str(error))
            except (DatabaseUnavailable, OutcomeUnknown):
                raise
            except QuireError as error:  # such as a damaged trail: others are told all the same
                self._waits.failed(group[:2], log.warning, str(error), org_id=group.org_id)
        self._waits.all_fine()
        return written

    def _due_before(self, group: PendingGroup, now: datetime) -> datetime | None:
        """Return the time before which rows of a group are told now; None: nothing is due."""
        if group.kind in HOURLY:
            before = hour_of(now - LATE)
            return before if group.oldest < before else None
        return now if group.oldest <= now - self._batch else None

    async def _write(self, group: PendingGroup, before: datetime) -> int:
        """Write the entries of the oldest rows of a group; 0: there were none left."""
        acts, wrong = await self._pending.take(group.org_id, group.kind, before)
        staged: list[Staged] = []
        for act in acts:
            row = read_row(act)
            if row is None:
                wrong.append(act.id)
            else:
                staged.append((act, row))
        if wrong:
            await self._report(group.org_id, len(wrong))
        if not staged:
            await self._pending.discard(wrong)
            return 0
        org = await self._directory.by_id(group.org_id)
        if org is None:
            return 0
        try:
            return await self._tell(org, group.kind, staged, wrong)
        except ToldAlready:
            return 0

    async def _tell(
        self, org: OrgFacts, kind: str, staged: Sequence[Staged], wrong: Sequence[bytes]
    ) -> int:
        payloads = await self._payloads(org, kind, staged)
        ids = [*wrong, *(act.id for act, _ in staged)]

        async def effect(transaction: AppendTransaction) -> AppendRefused | None:
            if await self._pending.remove(transaction, ids):
                return None
            return ToldAlready("these acts were told by another process")

        await self._guard.record_all(org, payloads, effect)
        metrics.OWN_ENTRIES.inc(len(payloads))
        return len(payloads)

    async def _payloads(
        self, org: OrgFacts, kind: str, staged: Sequence[Staged]
    ) -> Sequence[msgspec.Struct]:
        """Return the payloads that tell rows of one kind."""
        if kind == RUN:
            acts = acts_of(staged)
            return list(runs_told(acts, await self._runs.before(org, first_starts(acts))))
        last = await self._last_summary(org) if kind == READ else None
        return told(kind, staged, last)

    async def _report(self, org_id: int, count: int) -> None:
        await self._guard.register.reports.store(
            org_id,
            f"rows of table pending_acts were changed or made in the database ({count} of this org): "
            "they tell nothing, and were removed",
        )

    async def _last_summary(self, org: OrgFacts) -> datetime | None:
        """Return the hour of the org's newest summary of reads; None without one that opens."""
        query = EntryQuery(actor=SERVER, event_type=READS, limit=1)
        for _ in range(MAX_PAGES):
            page = await find(self._trail, self._sealer, org, query, may_open=True)
            for entry in page.entries:
                try:
                    payload = await payload_bytes(self._sealer, org, entry)
                    summary = msgspec.json.decode(payload or b"", type=ReadSummary)
                    return datetime.fromisoformat(summary.hour)
                except (FormatError, SealingError, QuireError, msgspec.MsgspecError):
                    return None
            if page.next_seq is None:
                return None
            query.cursor = cursor_of(page.next_seq)
        return None
