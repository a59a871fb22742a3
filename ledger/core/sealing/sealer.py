"""Turns admitted events into drafts; in a sealing org their payloads and names are sealed.

Subject keys are created on first use, in bulk for a request, and cached. The
cache of an org is valid for one count of its erasures. The sequencer refuses drafts
that were sealed at an older count (StaleSeal); their events are then sealed again here.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from struct import iter_unpack
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from blake3 import blake3

from ledger import sealing
from ledger.bounded import BoundedCache
from ledger.chain import Draft
from ledger.core.org import OrgFacts
from ledger.core.register import Register
from ledger.entry import payload_digest, search_tag
from ledger.errors import DatabaseUnavailable, SealingError
from ledger.event import Event
from ledger.pieces import piece
from ledger.rows import RowNotAuthentic
from ledger.storage import subjects
from ledger.storage.asking import Work, asking
from ledger.storage.database import Database
from ledger.storage.subjects import SubjectRecord

MAX_CACHED_SUBJECTS: Final = 200_000
"""Persons of all orgs; beyond them the org that holds most loses those that it used longest ago."""
MAX_CACHED_ORGS: Final = 20_000
REF_BYTES: Final = 16
MAX_LOADS: Final = 8
PLAIN_AT_ONCE: Final = 250
SEALED_AT_ONCE: Final = 50
KEYS_AT_ONCE: Final = 50
NAMES_AT_ONCE: Final = 1_000
"""Events that are taken over or sealed, and keys that are wrapped, without a pause: a millisecond."""
T = TypeVar("T")
U = TypeVar("U")


class Subject(msgspec.Struct, frozen=True, gc=False):
    """A person of a sealing org: ref, search tag, data key, and associated data of the payload.

    Not seen by the garbage collector: hundreds of thousands are cached.
    """

    ref: str
    tag: int
    key: sealing.DataKey
    aad: bytes


class Drafted(NamedTuple):
    """Drafts, and the erasure count at which they were sealed (None for a plain org)."""

    drafts: list[Draft]
    erasures: int | None


class People(NamedTuple):
    """The persons of one request by name, all loaded at one erasure count (-1: nothing is loaded)."""

    erasures: int
    subjects: dict[str, Subject]


class Living(NamedTuple):
    """The rows of persons, and the refs that have none although nobody erased them here."""

    rows: list[SubjectRecord]
    removed: frozenset[str]


class OrgKeys:
    """The unwrapped keys of one org, and the erasure count of its cached subjects (-1: none is cached).

    ``unnamed`` and ``unnamed_aad`` seal the payloads of events without a subject.
    """

    def __init__(self, master_key: bytes, org: OrgFacts) -> None:
        self.org_key = sealing.unwrap_key(master_key, org.wrapped_key, f"org:{org.slug}")
        self._lookup_key = sealing.derive(self.org_key, "subject-lookup")
        self.org_data_key = sealing.org_data_key(self.org_key)
        self.unnamed = sealing.DataKey.of(self.org_data_key)
        self.unnamed_aad = sealing.payload_aad(org.slug, sealing.ORG_SEAL)
        self.erasures = -1

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
        self._orgs: BoundedCache[int, OrgKeys] = BoundedCache(MAX_CACHED_ORGS)
        self._subjects: BoundedCache[str, Subject] = BoundedCache(MAX_CACHED_SUBJECTS)

    def keys(self, org: OrgFacts) -> OrgKeys:
        """The unwrapped keys of an org. Raises SealingError with a wrong master key."""
        keys = self._orgs.get(org.id)
        if keys is None:
            keys = OrgKeys(self._master_key, org)
            self._subjects.drop(org.id)  # their erasure count went with the keys
            self._orgs.put(org.id, keys)
        return keys

    async def draft(self, org: OrgFacts, events: Sequence[Event]) -> Drafted:
        """The drafts of a request's events, in order.

        Raises SealingError with a wrong master key, DatabaseUnavailable.
        """
        if not org.seals:
            return Drafted(await _paced(org, PLAIN_AT_ONCE, _plain, events), None)
        keys = self.keys(org)
        if len(events) > PLAIN_AT_ONCE:
            await piece(org.id)
        erasures, people = await self._people(org, keys, _names(events))
        salts = iter_unpack(f"{sealing.SALT_BYTES}s", os.urandom(sealing.SALT_BYTES * len(events)))
        sealed = partial(_sealed, keys, people)
        # A person who is erased while this waits makes the sequencer refuse the drafts.
        return Drafted(await _paced(org, SEALED_AT_ONCE, sealed, events, salts), erasures)

    def forget(self, org: OrgFacts) -> None:
        """Drop the cached subjects of an org, after one of them was erased."""
        keys = self._orgs.get(org.id)
        if keys is not None:
            self._empty_cache(org.id, keys, -1)

    def _empty_cache(self, org_id: int, keys: OrgKeys, erasures: int) -> None:
        self._subjects.drop(org_id)
        keys.erasures = erasures

    async def _people(self, org: OrgFacts, keys: OrgKeys, names: set[str]) -> People:
        """All these persons; new ones are created.

        They are held by the request: whatever the cache drops meanwhile, it loads each name once,
        and once more for each erasure in between.
        """
        held = await self._cached(org, keys, names)
        for _ in range(MAX_LOADS):
            missing = names - held.subjects.keys()
            if not missing and held.erasures >= 0:
                return held
            # Nothing was written yet: an org of which too much waits is refused here.
            with asking(Work.VITAL, org.id, refusable=True):
                erasures, found = await self._load(org, keys, missing)
            await self._remember(org.id, keys, erasures, found)
            # A person was erased since the others were loaded: any of them may be erased.
            others = held.subjects if erasures == held.erasures else {}
            held = People(erasures, {**others, **found})
        raise DatabaseUnavailable(
            "subjects of this org are being erased faster than events can be sealed; retry shortly"
        )

    async def _cached(self, org: OrgFacts, keys: OrgKeys, names: set[str]) -> People:
        """Those of these persons that are cached; nobody, at no erasure count, if one was erased."""
        erasures, found = keys.erasures, {}
        for some in _parts(list(names), NAMES_AT_ONCE):
            if len(names) > NAMES_AT_ONCE:
                await piece(org.id)
            found.update(self._subjects.all_of(some, org.id))
        return People(erasures, found) if erasures == keys.erasures else People(-1, {})

    async def _remember(
        self, org_id: int, keys: OrgKeys, erasures: int, found: dict[str, Subject]
    ) -> None:
        """Cache subjects that were loaded at an erasure count, unless newer ones are cached."""
        for some in _parts(list(found.items()), NAMES_AT_ONCE):
            if len(found) > NAMES_AT_ONCE:
                await piece(org_id)
            if self._orgs.get(org_id) is not keys:
                return  # dropped meanwhile: their successor counts erasures by itself
            if erasures > keys.erasures:
                self._empty_cache(org_id, keys, erasures)
            if erasures != keys.erasures:
                return
            for name, subject in some:
                self._subjects.put(name, subject, org_id)

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
        erased: list[SubjectRecord] = []
        for some in _parts(rows, NAMES_AT_ONCE):
            if len(rows) > NAMES_AT_ONCE:
                await piece(org.id)
            erased += [row for row in some if self.register.is_erased(org.id, row.ref)]
        return erased

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
        listed = list(names)
        lookups = await _paced(org, PLAIN_AT_ONCE, keys.lookup, listed)
        by_lookup = dict(zip(lookups, listed, strict=True))
        erasures, rows = await self.find(org, list(by_lookup))
        new = by_lookup.keys() - {row.lookup for row in rows}
        if new:
            make = lambda lookup: _new_subject(keys, lookup, by_lookup[lookup])  # noqa: E731
            made = await _paced(org, KEYS_AT_ONCE, make, list(new))
            await subjects.create(self._database, org.id, made)
            # A crash here leaves keys of persons without entries; the next request uses them.
            erasures, rows = await self.find(org, list(by_lookup))
        people = await _paced(org, KEYS_AT_ONCE, lambda row: _subject(keys, org, row), rows)
        return erasures, dict(zip((by_lookup[row.lookup] for row in rows), people, strict=True))


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


async def _paced(
    org: OrgFacts, at_once: int, make: Callable[..., U], items: Sequence[T], *more: Iterator[Any]
) -> list[U]:
    """Make one of each item, ``at_once`` of them in each piece of the org's long work."""
    if len(items) <= at_once:
        return list(map(make, items, *more))
    made: list[U] = []
    for some in _parts(items, at_once):
        await piece(org.id)
        made += map(make, some, *more)
    return made


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
        sealing.DataKey.of(key),
        sealing.payload_aad(org.slug, row.ref),
    )


def _names(events: Sequence[Event]) -> set[str]:
    subjects_named = {event.fields.subject for event in events}
    actors_named = {event.fields.actor for event in events}
    return {name for name in subjects_named | actors_named if name is not None}


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
