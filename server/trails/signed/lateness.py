"""Watches how long entries wait to be signed: an alarm first, then no more appends of that org.

Entries that no checkpoint covers can be cut off unnoticed. So a signer that stands still, for
whatever reason, must not go unnoticed, and the unsigned end of a trail must not grow without limit.
The wait counts from the time that the oldest unsigned entry has in the database, and at the latest
from when this process first saw it unsigned: a restart makes no wait shorter, nor does an altered row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from ledger.core.lasting import GRACE_S, Lasting
from ledger.core.org import OrgFacts
from ledger.core.sequencer import SeenHead
from ledger.errors import AppendRefused, ProblemType, StorageError
from ledger.storage import accepted_doubts, security_events, unsigned
from ledger.storage.database import Database
from ledger.storage.unsigned import AcknowledgedHead, UnsignedTrail
from server.settings import Settings

log = structlog.get_logger("quire")

SIGNING_LATE: Final = "signing_late"
POLLS_PER_LIMIT: Final = 10
POLL_INTERVAL_S: Final = 5.0
"""The longest pause between two polls; shorter for short limits."""
POLL_TIMEOUT_S: Final = 30.0
SETTLE_S: Final = 30.0
"""For how long entries are seen unsigned at least before they count as late: after a pause of the
whole server they are old when the signer starts."""
MAX_AGES: Final = 100
"""Trails whose oldest unsigned entry is looked up in one poll; the others follow in the next."""
RETRY_AFTER_S: Final = 30


class SigningLate(AppendRefused):
    """Entries of the org wait too long for a checkpoint; ``retry_after`` is in seconds."""

    problem_type = ProblemType(
        "signing-late",
        503,
        "Entries are not signed",
        "entries of this org from seq 40 on have waited over 900 s for a checkpoint: until they are "
        "signed, nothing is appended. The operator's log says why nothing is signed",
    )
    retry_after = RETRY_AFTER_S


@dataclass
class _Waiting:
    """Entries ``trail.size`` to ``end`` - 1 of an org, unsigned since ``since_s`` at the latest.

    ``seen_s`` is when this process first saw them; ``aged`` if ``since_s`` is from the database.
    """

    trail: UnsignedTrail
    end: int
    since_s: float
    seen_s: float
    aged: bool = False
    accepted: bool = False

    def is_late(self, now_s: float, limit_s: float) -> bool:
        waited_s, watched_s = now_s - self.since_s, now_s - self.seen_s
        return waited_s > limit_s and watched_s > min(limit_s, SETTLE_S)


@dataclass
class _LastSigned:
    """When any tree was last signed: its text in the database, and by the clock of this process."""

    text: str = ""
    at_s: float = field(default=float("-inf"))


class SigningWatch:
    """Knows which orgs wait for a checkpoint, and since when. Keep :meth:`watch` running.

    ``row_key`` authenticates what operators accepted. Where another server signs
    (``QUIRE_CHECKPOINTS=false``), that server watches.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        row_key: bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        usual_s = settings.checkpoint_seconds
        self._on = settings.checkpoints
        self._event_s = settings.unsigned_event_seconds + usual_s
        self._limit_s = settings.unsigned_limit_seconds + usual_s
        self._database = database
        self._row_key = row_key
        self._clock = clock
        self._acknowledged: dict[int, AcknowledgedHead] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._alarmed: set[int] = set()
        self._last = _LastSigned()

    def acknowledged(self, seen: SeenHead) -> None:
        """Remember a head that this process acknowledged, until it is signed."""
        if self._on:
            length = seen.head.seq + 1
            self._acknowledged[seen.org_id] = AcknowledgedHead(length, seen.thawed_us)

    def require_signed(self, org: OrgFacts) -> None:
        """Raise SigningLate if entries of the org have waited longer than the limit."""
        waiting = self._waiting.get(org.id)
        # The append says that a frozen org is frozen. What an operator accepted stays unsigned.
        if waiting is None or waiting.trail.frozen or waiting.accepted:
            return
        if waiting.is_late(self._clock(), self._limit_s):
            raise SigningLate(
                f"entries of this org from seq {waiting.trail.size} on have waited over "
                f"{self._limit_s:.0f} s for a checkpoint: until they are signed, nothing is "
                f"appended. {_advice(waiting.trail.doubt)}"
            )

    @property
    def stands_still(self) -> bool:
        """Whether nothing at all was signed for longer than the limit while entries wait."""
        now_s = self._clock()
        return now_s - self._last.at_s > self._limit_s and any(
            one.is_late(now_s, self._limit_s)
            for one in self._waiting.values()
            if one.trail.doubt is None and not one.trail.frozen
        )

    async def watch(self) -> None:
        """Poll until cancelled."""
        if not self._on:
            return
        trouble = Lasting(
            "unsigned entries can't be counted", "unsigned entries are counted", grace_s=GRACE_S
        )
        while True:
            try:
                async with asyncio.timeout(POLL_TIMEOUT_S):
                    await self.poll()
            except (StorageError, TimeoutError) as error:
                reason = str(error) or "the database did not answer in time"
                trouble.failed(log.warning, reason, early=log.info)
            else:
                trouble.fine()
            await asyncio.sleep(min(POLL_INTERVAL_S, self._event_s / POLLS_PER_LIMIT))

    async def poll(self) -> None:
        """Look once at what is not signed; report orgs that have waited too long."""
        acknowledged = dict(self._acknowledged)
        trails = await unsigned.unsigned_trails(self._database, acknowledged)
        now_s = self._clock()
        self._see(trails, now_s)
        self._forget_signed(acknowledged)
        signed, age_s, database_us = await unsigned.last_signed(self._database)
        if signed != self._last.text:
            # At the first poll the time is the database's; later ones were signed just now.
            self._last = _LastSigned(signed, now_s if self._last.text else now_s - age_s)
        await self._age(now_s, database_us)
        await self._accept()
        late = {key for key, one in self._waiting.items() if one.is_late(now_s, self._event_s)}
        self._alarmed &= late
        for org_id in sorted(late - self._alarmed):
            await self._report(org_id, self._waiting[org_id])

    def _see(self, trails: Iterable[UnsignedTrail], now_s: float) -> None:
        seen = {}
        for trail in trails:
            known = self._waiting.get(trail.org_id)
            if known is not None and trail.size < known.end:
                if trail.size != known.trail.size:  # the signer proceeds: others are the oldest
                    known.since_s, known.aged = known.seen_s, False
                known.trail = trail
            else:  # what waited before is signed; what waits now was appended since the last poll
                known = _Waiting(trail, trail.length, now_s, now_s)
            seen[trail.org_id] = known
        self._waiting = seen

    def _forget_signed(self, asked: dict[int, AcknowledgedHead]) -> None:
        """Forget the heads that are signed; an append meanwhile put another one in its place."""
        for org_id, head in asked.items():
            if org_id not in self._waiting and self._acknowledged.get(org_id) == head:
                del self._acknowledged[org_id]

    async def _age(self, now_s: float, database_us: int) -> None:
        """Look up when the oldest entries were written that were unsigned at the last poll, too."""
        due = [one for one in self._waiting.values() if one.seen_s < now_s and not one.aged][
            :MAX_AGES
        ]
        for one in due:
            places = one.trail.org_id, one.trail.size
            written_us = await unsigned.written_us(self._database, *places)
            if written_us is not None:
                one.since_s = min(one.since_s, now_s - (database_us - written_us) / 1_000_000)
            one.aged = True

    async def _accept(self) -> None:
        """Find out which doubts of stopped trees an operator accepted."""
        doubts = [
            (one.trail.org_id, one.trail.size, one.trail.doubt)
            for one in self._waiting.values()
            if one.trail.doubt is not None and not one.trail.frozen
        ]
        accepted = (
            await accepted_doubts.accepted(self._database, doubts, self._row_key)
            if doubts
            else set()
        )
        for one in self._waiting.values():
            one.accepted = one.trail.org_id in accepted

    async def _report(self, org_id: int, waiting: _Waiting) -> None:
        # The same words in each process, so that the event is stored once.
        detail = (
            f"entries from seq {waiting.trail.size} on have waited over {self._event_s:.0f} s for a "
            "checkpoint"
        )
        # The log first: it needs no database that takes the event.
        log.error("entries are not signed", org_id=org_id, reason=detail)
        self._alarmed.add(org_id)
        try:
            await security_events.add_once(self._database, org_id, SIGNING_LATE, detail)
        except BaseException:
            self._alarmed.discard(org_id)  # the next poll tries again
            raise


def _advice(doubt: str | None) -> str:
    if doubt is None:
        return "The operator's log says why nothing is signed"
    return (
        f"The signer stopped this org ({doubt}); the org's security events say why. The operator "
        "repairs the cause, or thaws the org: then it takes entries that stay unsigned"
    )
