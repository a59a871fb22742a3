"""Writes security events of what callers did: weighed, counted, and never one for each request.

Processes note occurrences in memory (:class:`~server.access.callers.notes.SecurityNotes`), and every few
seconds one transaction writes what is due. An event of the same kind by the same caller is written
once a minute, one that weighs nothing once in ten minutes; occurrences between two events are in the
number of the next one. An org has at most 20 events a minute: further callers are told together.
A crash loses the occurrences that wait.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from ledger.storage.event_kinds import kind_of
from server.access.callers.notes import CallerNote, NotePlace
from server.addresses import client_of, digest_of, network_of
from server.threats import metrics
from server.threats.blocks.book import address_book
from server.threats.scores import ALERT_SCORE, BLOCKED, ThreatScore, Weighed, weigh
from server.threats.store import EventTransaction, NewEvent, SubjectScore, Told
from server.trails.services import Services

MAX_ORG_EVENTS: Final = 20
"""Events of an org in one period; the callers beyond it are told together."""
MINUTE: Final = 1
TEN_MINUTES: Final = 10
HOUR: Final = 60
DAY: Final = 1_440
"""Periods in which an event is written once, in minutes."""
ALERT: Final = "threat.level_high"
REFUSED_ADDRESS: Final = "blocked_address_refused"
ORG, KEY, ADDRESS = "org", "key", "address"
TYPES: Final[Mapping[str, str]] = {
    "blocked": BLOCKED,
    "injection_detected": "INJECTION_DETECTED",
    "sanitized": "SANITIZED",
    "rate_limit_exceeded": "RATE_LIMIT_EXCEEDED",
    "cross_tenant_refused": BLOCKED,
    REFUSED_ADDRESS: BLOCKED,
}
"""QWED's type of the kinds of events that have one."""


def type_of(kind: str) -> str:
    """Return QWED's type of a kind of event; a kind that QWED does not have is its own."""
    return TYPES.get(kind, kind.upper())


class PlannedEvent(NamedTuple):
    """An event, written once in ``period`` minutes, with the scores that it gives.

    ``name`` tells it from other events of its org.
    """

    event: NewEvent
    name: str
    period: int
    scores: tuple[SubjectScore, ...]

    def told(self, minute: int) -> Told:
        """Return what says that it was written in the period of a minute."""
        return Told(self.event.org_id, minute - minute % self.period, self.name)


class EventWriter:
    """The writer of one process: ``services.part(EventWriter)``."""

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._notes = services.callers.notes
        self._address_key = services.address_key
        self._book = services.part(address_book)
        self._writing = asyncio.Lock()

    async def write_noted(self) -> None:
        """Write what is due of the notes of this process. Raises DatabaseUnavailable.

        What could not be written, or is not due, waits in the notes.
        """
        async with self._writing:
            notes = self._notes.take()
            if not notes:
                return
            try:
                left = await self._write(notes)
            except BaseException:
                self._notes.give_back(notes)
                raise
            self._notes.give_back(left)

    async def _write(self, notes: Mapping[NotePlace, CallerNote]) -> dict[NotePlace, CallerNote]:
        async with self._database.transaction() as connection:
            transaction = await EventTransaction.begin(connection)
            await transaction.blocked(new_blocked(notes))
            recent = await transaction.recent(sorted({place.org_id for place in notes}))
            due, left = await self._due(transaction, notes, recent)
            await self._commit(transaction, due)
        self._remember_addresses(notes, due)
        for place, note in notes.items():  # committed: they are not counted again
            metrics.OCCURRENCES.labels(place.kind).inc(note.count - note.counted)
            note.counted = note.count
        for note in left.values():
            note.counted = note.count
        return left

    def _remember_addresses(self, notes: Iterable[NotePlace], due: Iterable[PlannedEvent]) -> None:
        """Note the addresses of events that weigh something, so that they can be blocked."""
        digests = {one.event.details.get("address_digest") for one in due if one.event.score}
        for group in {place.group for place in notes if place.group}:
            address = client_of(group)
            if digest_of(address, self._address_key) in digests:
                self._book.note(address)

    async def _due(
        self,
        transaction: EventTransaction,
        notes: Mapping[NotePlace, CallerNote],
        recent: Mapping[int, int],
    ) -> tuple[list[PlannedEvent], dict[NotePlace, CallerNote]]:
        """Return the events that are due, and the notes that wait."""
        told = await self._told(transaction, {place.org_id for place in notes})
        due, left = [], {}
        others: dict[NotePlace, CallerNote] = defaultdict(CallerNote)
        planned = [
            (place, note, self._planned(place, note, recent)) for place, note in notes.items()
        ]
        for place, note, event in sorted(planned, key=lambda one: -(one[2].event.score or 0)):
            mark = event.told(transaction.minute)
            if mark in told:
                left[place] = note
            elif place != place.others and _is_full(told, mark):
                others[place.others].merge(note)
            else:
                told.add(mark)
                due.append(event)
        for place, note in others.items():
            event = self._planned(place, note, recent)
            if event.told(transaction.minute) in told:
                left[place] = note
            else:
                due.append(event)
        return due, left

    async def _told(self, transaction: EventTransaction, org_ids: Iterable[int]) -> set[Told]:
        minute = transaction.minute
        starts = {minute - minute % period for period in (MINUTE, TEN_MINUTES, HOUR, DAY)}
        return await transaction.told(sorted(org_ids), sorted(starts))

    def _planned(
        self, place: NotePlace, note: CallerNote, recent: Mapping[int, int]
    ) -> PlannedEvent:
        score = scored(place, note, recent.get(place.org_id, 0))
        digest, network = self.digest_and_network(place.group)
        details = {
            "count": note.count,
            "event_type": type_of(place.kind),
            "parts": dict(score.parts),
            **score.details(),
            **({} if digest is None else {"address_digest": digest, "network": network}),
        }
        event = NewEvent(
            place.org_id,
            place.kind,
            told_in_words(place, note, network),
            score.score,
            place.key_id,
            details,
        )
        parts = msgspec.json.encode(dict(score.parts)).decode()
        named = [(ORG, "", ""), (KEY, place.key_id, ""), (ADDRESS, digest, network)]
        scores = tuple(
            SubjectScore(place.org_id, kind, name, subnet, score.score, parts)
            for kind, name, subnet in named
            if name is not None and score.score
        )
        period = MINUTE if score.score else TEN_MINUTES
        name = f"{place.kind} {place.key_id or ''} {digest or ''}"
        return PlannedEvent(event, name, period, scores)

    def digest_and_network(self, group: str | None) -> tuple[str | None, str]:
        """Return the digest of an address and the network that holds it; None for no address."""
        if not group:
            return None, ""
        address = client_of(group)
        return digest_of(address, self._address_key), network_of(address)

    async def write(self, planned: Sequence[PlannedEvent]) -> None:
        """Write events that were not written in their period yet. Raises DatabaseUnavailable."""
        if not planned:
            return
        async with self._database.transaction() as connection:
            transaction = await EventTransaction.begin(connection)
            told = await self._told(transaction, {one.event.org_id for one in planned})
            due = []
            for one in sorted(planned, key=lambda one: -(one.event.score or 0)):
                mark = one.told(transaction.minute)
                if mark not in told and not _is_full(told, mark):
                    told.add(mark)
                    due.append(one)
            await self._commit(transaction, due)

    async def _commit(self, transaction: EventTransaction, due: Sequence[PlannedEvent]) -> None:
        minute = transaction.minute
        await transaction.write([one.event for one in due], [one.told(minute) for one in due])
        raised = await transaction.score(
            highest(score for one in due for score in one.scores), ALERT_SCORE
        )
        await transaction.write([alert(score) for score in raised], [])
        for one in due:
            metrics.EVENTS.labels(one.event.kind).inc()
        metrics.EVENTS.labels(ALERT).inc(len(raised))


def _is_full(told: Iterable[Told], mark: Told) -> bool:
    """Return whether an org has as many events in the period of a mark as it may have."""
    return sum(one[:2] == mark[:2] for one in told) >= MAX_ORG_EVENTS


def new_blocked(notes: Mapping[NotePlace, CallerNote]) -> dict[int, int]:
    """Return how often something was blocked in each org since it was counted last."""
    found: dict[int, int] = defaultdict(int)
    for place, note in notes.items():
        if TYPES.get(place.kind) == BLOCKED:
            found[place.org_id] += note.count - note.counted
    return dict(sorted((org_id, count) for org_id, count in found.items() if count))


def scored(place: NotePlace, note: CallerNote, recent_blocked: int) -> ThreatScore:
    """Return the score of the gravest cause of a note, as its last occurrence has it.

    ``recent_blocked`` counts what was blocked in the org within ten minutes, with this.
    """
    event_type = type_of(place.kind)
    before = recent_blocked - (event_type == BLOCKED)
    weighed = [
        weigh(
            Weighed(
                event_type,
                cause.reason,
                cause.query_chars,
                place.kind == REFUSED_ADDRESS,
                max(before, 0),
            )
        )
        for cause in note.causes
    ]
    return max(weighed, key=lambda score: score.points)


def told_in_words(place: NotePlace, note: CallerNote, network: str) -> str:
    """Return an event in words: what happened, how often, from where, and why."""
    by = f" from {network}" if network else ""
    causes = ", ".join(cause.reason for cause in note.causes if cause.reason)
    why = f" ({causes})" if causes else ""
    return f"{kind_of(place.kind).says}: {note.count:,}{by}{why}"


def highest(scores: Iterable[SubjectScore]) -> list[SubjectScore]:
    """Return the highest score of each org, key and address, in the order of these."""
    found: dict[tuple[int, str, str], SubjectScore] = {}
    for score in scores:
        known = found.get(score[:3])
        if known is None or score.score >= known.score:
            found[score[:3]] = score
    return [found[subject] for subject in sorted(found)]


def alert(score: SubjectScore) -> NewEvent:
    """Return the event that a score reached the alert level.

    It names the digest of an address as ``subject_digest``: the event behind the score has it as
    ``address_digest``, by which events are counted for a block.
    """
    who = {
        ORG: "of the org",
        KEY: f"of API key {score.name}",
        ADDRESS: f"of an address in {score.network}",
    }[score.kind]
    details: dict[str, object] = {"subject": score.kind, "parts": msgspec.Raw(score.parts.encode())}
    if score.kind == ADDRESS:
        details |= {"subject_digest": score.name, "network": score.network}
    return NewEvent(
        score.org_id,
        ALERT,
        f"The threat score {who} is {score.score}, and alerts are due from {ALERT_SCORE} on",
        score.score,
        score.name if score.kind == KEY else None,
        details,
    )
