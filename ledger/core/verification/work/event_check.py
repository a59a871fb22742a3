"""Compares the security events of an org with the entries of its trail that seal them.

What it finds says nothing about the entries: appends go on. The table of sealed events is not
asked, so whoever writes to it hides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from ledger.chain import TrailFault
from ledger.core.verification.work.faults import (
    EVENT_CHANGED,
    EVENT_CONTRADICTED,
    EVENT_MISSING,
    EVENT_UNSEALED,
    NO_ENTRY,
)
from ledger.core.verification.work.sealed_digests import SealedDigest, SealedDigests
from ledger.core.verification.work.sealing_entries import SealingEntry
from ledger.core.verification.work.tally import Tally
from ledger.entry import from_datetime
from ledger.errors import QuireError
from ledger.sealed_events import MalformedSealedEvents, SealedEvent, events_of
from ledger.storage.copy_out import reader_of
from ledger.storage.security_events import SecurityEventRow

CHECK: Final = "security_events"
MAX_NAMED: Final = 500
"""Events of one kind of fault that are named; one more fault counts the others."""
MAX_COMPARED: Final = 1_000_000
"""Sealed events that one verification compares."""
AHEAD: Final = timedelta(minutes=1)
"""An event that happened so much later than now has a time that somebody put there."""
_Said = Sequence[SealedDigest]


class EventTrust(NamedTuple):
    """The measure of events, all of it from outside the database.

    ``open`` returns the payload of an entry of the server by its seal, stored payload and seq; it
    raises QuireError. ``now`` is the database's time before the snapshot. Events before
    ``settled`` are sealed, unless they wait because of ``waits``. Entries before the seq
    ``restored`` came back from an archive, which has no events. ``of_all``: the org is `system`, to
    which the events belong that concern all orgs.
    """

    open: Callable[[str | None, bytes, int], bytes]
    now: datetime
    settled: datetime
    waits: str | None = None
    restored: int = 0
    of_all: bool = False


class EventCheck:
    """The comparison of one verification: entries are taken as they are found, then rows are read."""

    def __init__(self, trust: EventTrust) -> None:
        self._trust = trust
        self._sealed = SealedDigests()
        self._groups: Iterator[tuple[int, list[SealedDigest]]] = iter(())
        self._next: tuple[int, list[SealedDigest]] | None = None
        self._faults: dict[str, list[tuple[int, str]]] = {}
        self._right = self._waiting = self._not_here = 0
        self._unread: str | None = None

    def take(self, entries: Sequence[SealingEntry]) -> None:
        """Open entries that seal events; one that can't be read leaves the check open."""
        for entry in entries:
            try:
                self._sealed.add(entry.seq, self._opened(entry))
            except QuireError as error:
                # Its key may not have been restored; then its events are not here either.
                if entry.seal is not None and entry.seq < self._trust.restored:
                    self._not_here += 1
                elif self._unread is None:
                    self._unread = f"entry {entry.seq} seals security events, but {error}"

    def _opened(self, entry: SealingEntry) -> list[SealedEvent]:
        if entry.payload is None:
            raise MalformedSealedEvents("it has a fault")
        if len(self._sealed) >= MAX_COMPARED:
            raise MalformedSealedEvents(f"no more than {MAX_COMPARED:,} events are compared")
        return events_of(self._trust.open(entry.seal, entry.payload, entry.seq))

    async def compare(self, url: str, snapshot: str, org_id: int) -> None:
        """Compare the rows with what was taken. Raises DatabaseUnavailable."""
        self._groups = self._sealed.groups(await asyncio.to_thread(self._sealed.order))
        self._next = next(self._groups, None)
        async with reader_of(url, snapshot) as reader:
            async for page in reader.rows.events(org_id, of_all=self._trust.of_all):
                await asyncio.to_thread(self._match, page)
        await asyncio.to_thread(self._pass, None)

    def _match(self, rows: Sequence[SecurityEventRow]) -> None:
        for row in rows:
            self._pass(row.id)
            said: _Said = ()
            if self._next is not None and self._next[0] == row.id:
                said = self._next[1]
                self._next = next(self._groups, None)
            self._judge(row, said)

    def _pass(self, until: int | None) -> None:
        """Judge the sealed events before a number (None: all that are left), which have no row."""
        while self._next is not None and (until is None or self._next[0] < until):
            event_id, said = self._next
            here = self._here(event_id, said)
            if here:
                reason = f"was removed from the database: entry {here[-1].seq} sealed it"
                self._add(EVENT_MISSING, event_id, reason)
            else:
                self._not_here += 1
            self._next = next(self._groups, None)

    def _here(self, event_id: int, said: _Said) -> _Said:
        """Return what was said of an event in this database, which must be the same each time."""
        here = [one for one in said if one.seq >= self._trust.restored]
        for one in here:
            if one.digest != here[0].digest:
                reason = f"was changed after entry {here[0].seq} sealed it, and sealed once more by entry {one.seq}"
                self._add(EVENT_CONTRADICTED, event_id, reason)
                break
        return here

    def _judge(self, row: SecurityEventRow, said: _Said) -> None:
        here, digest, at_us = self._here(row.id, said), row.digest(), from_datetime(row.at)
        if any(one.digest == digest for one in said):
            self._right += 1
        elif here or any(one.at_us == at_us for one in said):
            reason = f"was changed in the database: entry {said[-1].seq} sealed another digest"
            self._add(EVENT_CHANGED, row.id, reason)
        else:
            self._judge_unsealed(row)
        # Numbers are given again after a restore: an entry before it may seal another event.
        before = [one for one in said if one.seq < self._trust.restored]
        self._not_here += any(one.digest != digest and one.at_us != at_us for one in before)

    def _judge_unsealed(self, row: SecurityEventRow) -> None:
        if self._trust.settled <= row.at <= self._trust.now + AHEAD:
            return
        if self._trust.waits is not None:
            self._waiting += 1
            return
        reason = "is in no entry of the trail, although the events of its time were sealed"
        self._add(EVENT_UNSEALED, row.id, reason)

    def _add(self, kind: str, event_id: int, reason: str) -> None:
        self._faults.setdefault(kind, []).append((event_id, reason))

    def add_to(self, tally: Tally) -> None:
        """Add the answer of the check, and a fault for each event that is not as it was sealed."""
        doubts = [doubt for doubt in self._doubts(tally) if doubt is not None]
        for kind, found in sorted(self._faults.items()):
            tally.add_faults(named := _named(kind, found), len(named), {kind})
        if doubts:
            tally.doubted[CHECK] = doubts[0]
        if self._unread is not None:
            tally.required.add(CHECK)
        if self._right:
            tally.passed.add(CHECK)
        else:
            tally.reasons[CHECK] = "no security event of this org was sealed"

    def _doubts(self, tally: Tally) -> Iterator[str | None]:
        """Yield why events could not be compared, the most serious reason first."""
        yield self._unread
        if tally.is_damaged and (unsealed := self._faults.pop(EVENT_UNSEALED, None)):
            yield (
                f"security events are in no entry ({len(unsealed):,}, the first is "
                f"{unsealed[0][0]}), but entries that may have sealed them are damaged or missing"
            )
        if self._waiting:
            yield f"security events wait to be sealed ({self._waiting:,}): {self._trust.waits}"
        if self._not_here:
            yield (
                "the org came back from its archive, which has no security events: entries before "
                f"{self._trust.restored} seal some that are not here"
            )


def _named(kind: str, found: Sequence[tuple[int, str]]) -> list[TrailFault]:
    """Return a fault for each event; one for all that are too many to be named."""
    named = [
        TrailFault(NO_ENTRY, kind, f"security event {event_id} {reason}")
        for event_id, reason in found[:MAX_NAMED]
    ]
    if more := found[MAX_NAMED:]:
        reason = f"{len(more):,} more security events, from {more[0][0]} to {more[-1][0]}"
        named.append(TrailFault(NO_ENTRY, kind, reason))
    return named
