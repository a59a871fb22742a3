"""Selects the entries of a bundle before its first byte; each takes a few bytes of memory."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple, Protocol

from ledger.chain import StoredEntry
from ledger.entry import RecordId
from ledger.errors import INVALID_REQUEST, NOT_FOUND, QuireError
from ledger.storage.database import Database
from ledger.storage.entries import heads
from ledger.storage.entries.search import SCAN_WINDOW, EntrySearch

LOOKUP_PLACES: Final = 5_000
"""Record ids that are looked up in one query."""


class NothingSelected(QuireError):
    """A requested entry does not exist, or no entry matches."""

    problem_type = NOT_FOUND


class TooManySelected(QuireError):
    """More entries than one bundle takes, or more than can be searched in time."""

    problem_type = INVALID_REQUEST


class EntrySource(Protocol):
    """Reads entries, live and archived; as ``TrailReader`` does."""

    async def present(self, org_id: int, places: Sequence[RecordId]) -> set[int]: ...

    async def times(self, org_id: int, seqs: Sequence[int]) -> dict[int, datetime]: ...

    async def places(
        self, org_id: int, where: EntrySearch, *, from_seq: int, to_seq: int, limit: int
    ) -> tuple[list[tuple[int, datetime]], int | None]: ...

    async def entries(
        self, org_id: int, seqs: Sequence[int], since: datetime, until: datetime
    ) -> list[StoredEntry]: ...


class Selection(NamedTuple):
    """Entries of one trail: ascending seqs, and the times of the first and the last entry."""

    seqs: Sequence[int]
    since: datetime
    until: datetime

    def batches(self, size: int) -> Iterator[list[int]]:
        """The seqs in batches of this size."""
        each = iter(self.seqs)
        while batch := list(islice(each, size)):
            yield batch


async def by_records(
    trail: EntrySource, org_id: int, distinct: Sequence[RecordId], limit: int
) -> Selection:
    """Select the entries with these record ids, ascending and each once.

    Raises NothingSelected, TooManySelected.
    """
    check_count(len(distinct), limit)
    seqs = array("q")
    for start in range(0, len(distinct), LOOKUP_PLACES):
        part = distinct[start : start + LOOKUP_PLACES]
        found = (
            set()
            if any(place.org_id != org_id for place in part)
            else {*await trail.present(org_id, part)}
        )
        if len(found) != len(part):
            raise NothingSelected("this org has no entry with one of the requested record ids")
        seqs.extend(place.seq for place in part)
    return await _between(trail, org_id, seqs)


async def by_range(
    database: Database,
    trail: EntrySource,
    org_id: int,
    *,
    from_seq: int,
    to_seq: int | None,
    limit: int,
) -> Selection:
    """Select the entries ``from_seq`` to ``to_seq``, both included; None: to the newest.

    Raises NothingSelected if the trail ends before, and TooManySelected.
    """
    newest, _, _ = await heads.head(database, org_id)
    last = newest if to_seq is None else to_seq
    if last > newest or from_seq > last:
        raise NothingSelected(
            f"the trail has no entry {max(from_seq, last)}; its newest entry is {newest}"
            if newest >= 0
            else "the trail has no entries yet"
        )
    check_count(last + 1 - from_seq, limit)
    return await _between(trail, org_id, range(from_seq, last + 1))


async def by_filter(
    database: Database,
    trail: EntrySource,
    org_id: int,
    where: EntrySearch,
    *,
    limit: int,
    within_s: float,
) -> Selection:
    """Select every entry that matches now. Raises NothingSelected and TooManySelected.

    The search ends after about ``within_s`` seconds, with TooManySelected.
    """
    deadline = time.monotonic() + within_s
    newest, _, _ = await heads.head(database, org_id)
    seqs = array("q")
    at: int | None = 0
    while at is not None:
        found, at = await trail.places(org_id, where, from_seq=at, to_seq=newest, limit=SCAN_WINDOW)
        seqs.extend(seq for seq, _ in found)
        check_count(len(seqs), limit)
        if at is not None and time.monotonic() > deadline:
            raise TooManySelected(
                f"the search reached entry {at} of {newest} when its time was up; narrow it "
                "with since and until, or request a range"
            )
    if not seqs:
        raise NothingSelected("no entry matches")
    return await _between(trail, org_id, seqs)


def check_count(count: int, limit: int) -> None:
    """Raise TooManySelected for more than a bundle takes."""
    if count > limit:
        raise TooManySelected(
            f"a bundle of this server has at most {limit} entries; request several bundles"
        )


async def _between(trail: EntrySource, org_id: int, seqs: Sequence[int]) -> Selection:
    ends = await trail.times(org_id, [seqs[0], seqs[-1]])
    if not ends.keys() >= {seqs[0], seqs[-1]}:
        raise NothingSelected(f"the trail has no entry {seqs[0]}, or no entry {seqs[-1]}")
    return Selection(seqs, ends[seqs[0]], ends[seqs[-1]])
