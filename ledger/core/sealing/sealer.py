"""Turns admitted events into drafts; in a sealing org their payloads and names are sealed.

Subject keys are created on first use, in bulk for a request, and cached. The
cache of an org is valid for one count of its erasures. The sequencer refuses drafts
that were sealed at an older count (StaleSeal); their events are then sealed again here.
"""

from __future__ import annotations

import asyncio
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from struct import iter_unpack
from typing import Any, Final, NamedTuple

from blake3 import blake3

from ledger import sealing
from ledger.chain import Draft
from ledger.core.org import OrgFacts
from ledger.core.register import Register
from ledger.entry import payload_digest, search_tag
from ledger.errors import DatabaseUnavailable, SealingError
from ledger.event import Event
from ledger.rows import RowNotAuthentic
from ledger.storage import subjects
from ledger.storage.database import Database
from ledger.storage.subjects import SubjectRecord

MAX_CACHED_SUBJECTS: Final = 200_000
REF_BYTES: Final = 16
SLICE_EVENTS: Final = 1_000
"""Events that are drafted in one turn of the event loop: some milliseconds."""
MAX_LOADS: Final = 8


class Subject(NamedTuple):
    """A person of a sealing org: ref, search tag, data key, and associated data of the payload."""

    ref: str
    tag: int
    key: sealing.DataKey
    aad: bytes


class Drafted(NamedTuple):
    """Drafts, and the erasure count at which they were sealed (None for a plain org)."""

    drafts: list[Draft]
    erasures: int | None


class Cache(NamedTuple):
    """Subjects by name, all loaded at one erasure count (-1 when nothing is loaded)."""

    erasures: int
    subjects: dict[str, Subject]


class Living(NamedTuple):
    """The rows of persons, and the refs that have none although nobody erased them here."""

    rows: list[SubjectRecord]
    removed: frozenset[str]


class OrgKeys:
    """The unwrapped keys of one org, and its cache of subjects.

    ``unnamed`` and ``unnamed_aad`` seal the payloads of events without a subject.
    """

    def __init__(self, master_key: bytes, org: OrgFacts) -> None:
        self.org_key = sealing.unwrap_key(master_key, org.wrapped_key, f"org:{org.slug}")
        self._lookup_key = sealing.derive(self.org_key, "subject-lookup")
        self.org_data_key = sealing.org_data_key(self.org_key)
        self.unnamed = sealing.DataKey(self.org_data_key)
        self.unnamed_aad = sealing.payload_aad(org.slug, sealing.ORG_SEAL)
        self.cache = Cache(-1, {})

    def lookup(self, name: str) -> bytes:
        """The keyed hash by which a person's row is found: 32 bytes."""
        return blake3(name.encode(), key=self._lookup_key).digest()


def new_org_key(master_key: bytes, slug: str) -> bytes:
    """Returns a new org key, wrapped with the master key."""
    key, nonce = os.urandom(sealing.KEY_BYTES), os.urandom(sealing.NONCE_BYTES)
    return sealing.wrap_key(master_key, nonce, key, f"org:{slug}")


class Sealer:
    """Makes drafts of events. One per process; safe for concurrent use on one event loop.

    ``register`` knows who was erased; without one, a row that is there counts.
    """

    def __init__(
        self, database: Database, master_key: bytes, register: Register | None = None
    ) -> None:
        self.register = register
        self._database = database
        self._master_key = master_key
        self._orgs: dict[int, OrgKeys] = {}
        self._cached = 0

    def keys(self, org: OrgFacts) -> OrgKeys:
        """The unwrapped keys of an org. Raises SealingError with a wrong master key."""
        keys = self._orgs.get(org.id)
        if keys is None:
            keys = self._orgs[org.id] = OrgKeys(self._master_key, org)
        return keys

    async def draft(self, org: OrgFacts, events: Sequence[Event]) -> Drafted:
        """The drafts of a request's events, in order.

        Raises SealingError with a wrong master key, DatabaseUnavailable.
        """
        if not org.seals:
            return Drafted(await _in_slices(_plain, events), None)
        keys = self.keys(org)
        erasures, people = await self._people(org, keys, _names(events))
        salts = iter_unpack(f"{sealing.SALT_BYTES}s", os.urandom(sealing.SALT_BYTES * len(events)))
        sealed = partial(_sealed, keys, people)
        # A person who is erased while this waits makes the sequencer refuse the drafts.
        return Drafted(await _in_slices(sealed, events, salts), erasures)

    def forget(self, org: OrgFacts) -> None:
        """Drop the cached subjects of an org, after one of them was erased."""
        keys = self._orgs.get(org.id)
        if keys is not None:
            self._empty_cache(keys, -1)

    def _empty_cache(self, keys: OrgKeys, erasures: int) -> None:
        self._cached -= len(keys.cache.subjects)
        keys.cache = Cache(erasures, {})

    async def _people(self, org: OrgFacts, keys: OrgKeys, names: set[str]) -> Cache:
        """A cache that holds all these names; new persons are created."""
        for _ in range(MAX_LOADS):
            cache = keys.cache
            missing = [name for name in names if name not in cache.subjects]
            if not missing and cache.erasures >= 0:
                return cache
            erasures, found = await self._load(org, keys, missing)
            if erasures > keys.cache.erasures or self._cached > MAX_CACHED_SUBJECTS:
                # A person was erased since the cache was filled: any cached subject may be theirs.
                self._empty_cache(keys, erasures)
            if erasures == keys.cache.erasures:
                self._cached += len(found.keys() - keys.cache.subjects.keys())
                keys.cache.subjects.update(found)
        raise DatabaseUnavailable(
            "subjects of this org are being erased faster than events can be sealed; retry shortly"
        )

    async def find(
        self, org: OrgFacts, lookups: Sequence[bytes]
    ) -> tuple[int, list[SubjectRecord]]:
        """Return the org's erasure count, and the stored rows for these lookups.

        Raises RowNotAuthentic for the row of an erased person that was put back.
        """
        erasures, rows = await subjects.find(self._database, org.id, lookups)
        if await self._erased(org, rows):
            # Erased after they were read, or put back.
            erasures, rows = await subjects.find(self._database, org.id, lookups)
        for row in await self._erased(org, rows):
            raise RowNotAuthentic(self._report_returned(org, row.ref))
        return erasures, rows

    async def living(self, org: OrgFacts, refs: Sequence[str]) -> Living:
        """Return the rows of these refs, but for those of erased persons that were put back."""
        rows = await subjects.by_refs(self._database, org.id, refs) if refs else []
        if await self._erased(org, rows):
            rows = await subjects.by_refs(self._database, org.id, refs)
        returned = {row.ref for row in await self._erased(org, rows)}
        for ref in returned:
            self._report_returned(org, ref)
        removed = frozenset(refs) - {row.ref for row in rows}
        if removed:
            removed = await self._not_erased(org, removed)
        return Living([row for row in rows if row.ref not in returned], removed)

    async def _erased(self, org: OrgFacts, rows: Sequence[SubjectRecord]) -> list[SubjectRecord]:
        """Return the rows of persons that were erased until now."""
        if self.register is None or not rows:
            return []
        await self.register.refresh()
        return [row for row in rows if self.register.is_erased(org.id, row.ref)]

    async def _not_erased(self, org: OrgFacts, missing: frozenset[str]) -> frozenset[str]:
        """Return those of these refs without a row that nobody erased, and report one of them."""
        if self.register is None:
            return frozenset()
        await self.register.catch_up()
        removed = frozenset(ref for ref in missing if not self.register.is_erased(org.id, ref))
        if removed and not org.keys_lost_below:
            ref = min(removed)
            detail = f"the row of table subjects with ref {ref} of org {org.slug} was removed"
            self.register.reports.found(org.id, detail)
        return removed

    def _report_returned(self, org: OrgFacts, ref: str) -> str:
        detail = (
            f"the row of table subjects with ref {ref} of org {org.slug} is an erased person's: it was "
            "put back into the database. Delete it"
        )
        if self.register is not None:
            self.register.reports.found(org.id, detail)
        return detail

    async def _load(
        self, org: OrgFacts, keys: OrgKeys, names: Iterable[str]
    ) -> tuple[int, dict[str, Subject]]:
        by_lookup = {keys.lookup(name): name for name in names}
        erasures, rows = await self.find(org, list(by_lookup))
        new = by_lookup.keys() - {row.lookup for row in rows}
        if new:
            await subjects.create(
                self._database,
                org.id,
                [_new_subject(keys, lookup, by_lookup[lookup]) for lookup in new],
            )
            # A crash here leaves keys of persons without entries; the next request uses them.
            erasures, rows = await self.find(org, list(by_lookup))
        return erasures, {by_lookup[row.lookup]: _subject(keys, org, row) for row in rows}


def _new_subject(keys: OrgKeys, lookup: bytes, name: str) -> SubjectRecord:
    ref = sealing.REF_PREFIX + urlsafe_b64encode(os.urandom(REF_BYTES)).rstrip(b"=").decode()
    new_key = os.urandom(sealing.KEY_BYTES)
    purpose = _purpose(ref, lookup)
    return SubjectRecord(
        lookup,
        ref,
        sealing.wrap_key(keys.org_key, os.urandom(sealing.NONCE_BYTES), new_key, purpose),
        sealing.wrap_key(new_key, os.urandom(sealing.NONCE_BYTES), name.encode(), f"name:{ref}"),
    )


def _purpose(ref: str, lookup: bytes) -> str:
    """Return what a subject's key is wrapped for: no row's key serves another ref or person."""
    return f"subject:{ref}:{lookup.hex()}"


def subject_key(keys: OrgKeys, org: OrgFacts, row: SubjectRecord) -> bytes:
    """Return the key of a person's row. Raises RowNotAuthentic for one of another ref or person."""
    try:
        return sealing.unwrap_key(keys.org_key, row.wrapped_key, _purpose(row.ref, row.lookup))
    except SealingError:  # the org's own key was unwrapped, so the master key is right
        raise RowNotAuthentic(
            f"the row of table subjects with ref {row.ref} of org {org.slug} was changed or made "
            "in the database. Nothing was written, opened or erased; run a full verification"
        ) from None


def _subject(keys: OrgKeys, org: OrgFacts, row: SubjectRecord) -> Subject:
    key = subject_key(keys, org, row)
    return Subject(
        row.ref,
        search_tag(row.ref),
        sealing.DataKey(key),
        sealing.payload_aad(org.slug, row.ref),
    )


def _names(events: Sequence[Event]) -> set[str]:
    subjects_named = {event.fields.subject for event in events}
    actors_named = {event.fields.actor for event in events}
    return {name for name in subjects_named | actors_named if name is not None}


async def _in_slices(
    draft: Callable[..., Draft], events: Sequence[Event], *more: Iterator[Any]
) -> list[Draft]:
    """Make a draft of each event; other requests go on after each SLICE_EVENTS of them."""
    drafts: list[Draft] = []
    for first in range(0, len(events), SLICE_EVENTS):
        if first:
            await asyncio.sleep(0)
        drafts += map(draft, events[first : first + SLICE_EVENTS], *more)
    return drafts


def _plain(event: Event) -> Draft:
    fields = event.fields
    return Draft(
        fields.action,
        fields.actor,
        fields.data_classification,
        fields.event_type,
        fields.legal_basis,
        fields.outcome,
        payload_digest(event.payload, None),
        fields.subject,
        fields.timestamp,
        search_tag(fields.actor),
        search_tag(fields.subject),
        event.payload,
    )


def _sealed(keys: OrgKeys, people: dict[str, Subject], event: Event, salted: tuple[bytes]) -> Draft:
    (salt,) = salted
    fields = event.fields
    actor = None if fields.actor is None else people[fields.actor]
    if fields.subject is None:
        subject, seal = None, sealing.ORG_SEAL
        payload = sealing.seal_payload(keys.unnamed, salt, keys.unnamed_aad, event.payload)
    else:
        subject = people[fields.subject]
        seal = subject.ref
        payload = sealing.seal_payload(subject.key, salt, subject.aad, event.payload)
    return Draft(
        fields.action,
        None if actor is None else actor.ref,
        fields.data_classification,
        fields.event_type,
        fields.legal_basis,
        fields.outcome,
        payload_digest(payload, seal),
        None if subject is None else subject.ref,
        fields.timestamp,
        0 if actor is None else actor.tag,
        0 if subject is None else subject.tag,
        payload,
    )
