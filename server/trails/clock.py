"""The clock of a server process: polled, compared with other clocks; leaps are reported.

Each process judges its clock by itself. The values on which the machine's processes must agree
are in the note (:mod:`server.trails.clock_note`); the process that keeps it reports a leap for
all.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from ledger.core.clock import (
    SECOND_US,
    ClockReading,
    Leap,
    LeapEnd,
    Tolerance,
    WallClock,
    read_clocks,
)
from ledger.core.lasting import Lasting, end_silent
from ledger.errors import ClockUnsteady, StorageError
from ledger.storage import attestations
from ledger.storage.clock import now_us
from ledger.storage.database import Database
from ledger.storage.queries import Queryable
from server import metrics
from server.settings import Settings
from server.trails.clock_note import ClockNote, NoteFile, boot_name

log = structlog.get_logger("quire")

POLL_INTERVAL_S: Final = 1.0
COMPARE_S: Final = 10.0
NOTE_S: Final = 30.0
SETTLED_US: Final = 86_400 * SECOND_US
"""How long after an accepted leap irreversible work waits."""
MAX_EVENTS: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ServerClock:
    """Call it for the time in µs; raises ClockUnsteady. Keep :meth:`watch` running.

    ``reports``: this process may keep the note and report leaps.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        reports: bool = False,
        read: Callable[[], ClockReading] = read_clocks,
    ) -> None:
        self._file = NoteFile(settings.data_dir)
        self._boot = boot_name()
        self._read = read
        note = self._file.read()
        tolerance = Tolerance(
            int(settings.clock_tolerance_seconds * SECOND_US),
            int(settings.clock_hold_seconds * SECOND_US),
        )
        self.wall = WallClock(tolerance, boot_trusted_us=self._trusted(note, tolerance), read=read)
        self._believed_us = note.believed_us if note and note.boot == self._boot else None
        self._noted_database_us = note.database_us if note else 0
        self._compared = False
        self._compared_s = float("-inf")
        self._may_report = reports
        self._reported: Leap | None = None
        self._events: deque[tuple[str, str]] = deque(maxlen=MAX_EVENTS)
        self._lasting = Lasting(
            "the clock leapt: appends wait", "the clock is steady: appends continue", quiet_s=0
        )
        self._written_us = 0

    def __call__(self) -> int:
        """Return the time in µs since the Unix epoch. Raises ClockUnsteady."""
        return self.wall()

    def seconds(self) -> float:
        """Return the time in seconds since the Unix epoch. Raises ClockUnsteady."""
        return self.wall() / SECOND_US

    def moment(self) -> datetime:
        """Return the time. Raises ClockUnsteady."""
        return _moment(self.wall())

    def settled(self) -> datetime:
        """Return the time for irreversible work. Raises ClockUnsteady for a day after a leap too."""
        now = self.moment()
        if self._believed_us is not None:
            left_us = self._believed_us + SETTLED_US - self._read().steady_us
            if left_us > 0:
                raise ClockUnsteady(
                    "the server's clock leapt less than a day ago: irreversible work waits for "
                    f"another {left_us // (60 * SECOND_US)} minutes",
                    retry_after=max(left_us // SECOND_US, 1),
                )
        return now

    async def watch(self, database: Database) -> None:
        """Poll the clocks until cancelled."""
        comparing = asyncio.create_task(self._compare_for_ever(database))
        try:
            while True:
                self.poll()
                end_silent()
                await self._flush(database)
                await asyncio.sleep(POLL_INTERVAL_S)
        finally:
            comparing.cancel()

    async def close(self, database: Database) -> None:
        """Report leaps not reported yet, and release the note to another process."""
        self.poll()
        await self._flush(database)
        self._file.close()

    async def _compare_for_ever(self, database: Database) -> None:
        while True:
            await self.compare(database)
            left_s = COMPARE_S
            while left_s > 0 and self.wall.leap is None:
                await asyncio.sleep(POLL_INTERVAL_S)
                left_s -= POLL_INTERVAL_S
            await asyncio.sleep(POLL_INTERVAL_S)

    async def tick(self, queries: Queryable) -> None:
        """Poll, and compare if that is due: for processes that do not run :meth:`watch`."""
        self.poll()
        now_s = time.monotonic()
        if self.wall.leap is not None or now_s - self._compared_s >= COMPARE_S:
            self._compared_s = now_s
            await self.compare(queries)

    async def compare(self, queries: Queryable) -> None:
        """Compare the clock with the database's, if the database answers."""
        before = self._read()
        try:
            database_us = await now_us(queries)
        except StorageError:
            return
        after = self._read()
        if not self._compared:
            self._compared = True
            apart_us = abs(before.wall_us - database_us - self._noted_database_us)
            if apart_us <= self.wall.tolerance.apart_us:  # the same difference was accepted before
                self.wall.trust(self.wall.boot.trusted_us, self._noted_database_us)
        self.wall.compare(database_us, before, after)

    def poll(self) -> None:
        """Read the clocks once, and report new leaps."""
        now = self.wall.check()
        keeps = self._may_report and self._file.keep()
        if self.wall.leap is not None and not keeps:
            self._adopt()
        for ended in self.wall.ended():
            if not ended.back:
                self._believed_us = now.steady_us
            if keeps:
                self._report_end(ended)
        leap = self.wall.leap
        if keeps:
            self._note(now)
            if leap is not None:
                self._report(leap)
        if self._may_report:
            metrics.CLOCK_OFF.set(abs(leap.off_us) / SECOND_US if leap else 0)

    def _trusted(self, note: ClockNote | None, tolerance: Tolerance) -> int | None:
        """Return the offset of the clock according to the note; None if the note has none."""
        if note is None or not self._boot:
            return None
        if note.boot == self._boot:
            return note.boot_us
        now = self._read()
        if now.wall_us < note.wall_us - tolerance.apart_us:
            return note.wall_us - now.steady_us  # time can't go back over a restart
        return None

    def _adopt(self) -> None:
        """Adopt the offsets of the process that keeps the note."""
        note = self._file.read()
        if note is None or note.boot != self._boot:
            return
        if (note.boot_us, note.database_us) != (
            self.wall.boot.trusted_us,
            self.wall.database.trusted_us,
        ):
            self._believed_us = note.believed_us
            self.wall.trust(note.boot_us, note.database_us)
            self.wall.check()

    def _note(self, now: ClockReading) -> None:
        due = now.steady_us - self._written_us >= NOTE_S * SECOND_US or not self._written_us
        if self.wall.leap is not None or not due:
            return
        self._written_us = now.steady_us
        trusted = self.wall.boot.trusted_us, self.wall.database.trusted_us
        self._file.write(ClockNote(self._boot, *trusted, now.wall_us, self._believed_us))

    def _report(self, leap: Leap) -> None:
        """Report a leap of the clock to the log, the metrics and the security events."""
        off_s = leap.off_us / SECOND_US
        shown, expected = _moment(leap.wall_us), _moment(leap.wall_us - leap.off_us)
        self._lasting.failed(
            log.error,
            f"it shows {shown} where {expected} is expected by {leap.against}",
            off_seconds=off_s,
        )
        if leap is not self._reported:
            self._reported = leap
            metrics.CLOCK_LEAPS.inc()
            detail = f"by {off_s:+.3f} s: it showed {shown} where {expected} was expected by"
            self._events.append(("clock_leapt", f"{detail} {leap.against}; appends wait"))

    def _report_end(self, ended: LeapEnd) -> None:
        if ended.leap is not self._reported:
            self._report(ended.leap)  # it came and went between two polls
        self._written_us = 0
        self._lasting.fine()
        how = "it leapt back" if ended.back else "it stayed steady, so its time is accepted"
        lasted_s = ended.lasted_us / SECOND_US
        detail = (
            f"after {lasted_s:.3f} s: {how}; appends continue at {_moment(self._read().wall_us)}"
        )
        self._events.append(("clock_steady", detail))

    async def _flush(self, database: Database) -> None:
        """Store the security events; if the database can't be reached, the next call retries."""
        while self._events:
            try:
                await attestations.add_alarm(database, *self._events[0])
            except StorageError:
                return
            self._events.popleft()


def _moment(us: int) -> datetime:
    """Return a clock's time; the epoch for one that a datetime can't hold."""
    try:
        return _EPOCH + timedelta(microseconds=us)
    except OverflowError:
        return _EPOCH
