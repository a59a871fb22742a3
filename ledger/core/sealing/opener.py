"""Opens sealed payloads, and the names behind refs, for readers with the right to see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ledger import sealing
from ledger.core.org import OrgFacts
from ledger.core.sealing.sealer import OrgKeys, Sealer, subject_key
from ledger.errors import KeyNotRestored, SealingError
from ledger.rows import RowNotAuthentic
from ledger.storage.subjects import SubjectRecord


class Opened(NamedTuple):
    """A person whose ref was opened: name and data key."""

    name: str
    key: bytes


class Opener:
    """Opens payloads and refs of one org for one read; erased refs stay closed.

    ``removed`` are refs whose rows were removed, though nobody erased the persons.
    """

    def __init__(
        self,
        org: OrgFacts,
        keys: OrgKeys,
        people: dict[str, Opened],
        removed: frozenset[str] = frozenset(),
    ) -> None:
        self._org = org
        self._keys = keys
        self._people = people
        self._removed = removed

    def name(self, ref: str | None) -> str | None:
        """The name behind a ref; an erased ref, or text that is no ref, is returned unchanged."""
        person = self._people.get(ref or "")
        return ref if person is None else person.name

    def is_erased(self, seal: str, seq: int) -> bool:
        """True if the key behind this seal of entry ``seq`` was destroyed."""
        return self._is_missing(seal) and seal not in self._removed and not self.is_lost(seal, seq)

    def is_lost(self, seal: str, seq: int) -> bool:
        """True if the key behind this seal of entry ``seq`` was not restored with the trail."""
        of_org = seal == sealing.ORG_SEAL
        return seq < self._org.keys_lost_below and (of_org or self._is_missing(seal))

    def _is_missing(self, seal: str) -> bool:
        return seal.startswith(sealing.REF_PREFIX) and seal not in self._people

    def payload(self, seal: str, sealed: bytes, seq: int) -> bytes | None:
        """The payload of entry ``seq`` as it was sent, or None if its subject is erased.

        Raises KeyNotRestored, RowNotAuthentic, and SealingError or MalformedSealedPayload for altered
        bytes.
        """
        if self.is_lost(seal, seq):
            raise KeyNotRestored(
                f"the key that opens entry {seq} was not restored: org {self._org.slug} came back "
                "from its archive, which holds no keys. Restore the tables orgs and subjects from "
                "a backup of the database before the archive"
            )
        if seal in self._removed:
            raise RowNotAuthentic(
                f"the row of table subjects with ref {seal} of org {self._org.slug} was removed from "
                "the database, and nobody erased the person. Restore the row from a backup"
            )
        aad = sealing.payload_aad(self._org.slug, seal)
        if seal == sealing.ORG_SEAL:
            return sealing.open_payload(self._keys.org_data_key, aad, sealed)
        person = self._people.get(seal)
        return None if person is None else sealing.open_payload(person.key, aad, sealed)

    def payload_key(self, seal: str, sealed: bytes) -> bytes | None:
        """The key that opens only this payload, or None if its subject is erased.

        Raises SealingError or MalformedSealedPayload if the key does not open the payload.
        """
        data_key: bytes | None = self._keys.org_data_key
        if seal != sealing.ORG_SEAL:
            person = self._people.get(seal)
            data_key = None if person is None else person.key
        if data_key is None:
            return None
        key = sealing.payload_key(data_key, sealing.sealed_salt(sealed))
        sealing.open_with_payload_key(key, sealing.payload_aad(self._org.slug, seal), sealed)
        return key


def open_people(keys: OrgKeys, org: OrgFacts, rows: Iterable[SubjectRecord]) -> dict[str, Opened]:
    """The persons of these rows, by ref. Raises RowNotAuthentic."""
    return {row.ref: _opened(keys, org, row) for row in rows}


def closed_people(master_key: bytes, org: OrgFacts, rows: Iterable[SubjectRecord]) -> list[str]:
    """Return the refs of the persons whose rows don't open. Raises SealingError for the org's key."""
    keys, closed = OrgKeys(master_key, org), []
    for row in rows:
        try:
            open_people(keys, org, [row])
        except RowNotAuthentic:
            closed.append(f"ref {row.ref}")
    return closed


def _opened(keys: OrgKeys, org: OrgFacts, row: SubjectRecord) -> Opened:
    key = subject_key(keys, org, row)
    try:
        name = sealing.unwrap_key(key, row.name, f"name:{row.ref}").decode()
    except SealingError:
        raise RowNotAuthentic(
            f"the name in the row of table subjects with ref {row.ref} of org {org.slug} was "
            "changed in the database"
        ) from None
    if keys.lookup(name) != row.lookup:
        raise RowNotAuthentic(
            f"the row of table subjects with ref {row.ref} of org {org.slug} is another person's"
        )
    return Opened(name, key)


def own_payload(sealer: Sealer, org: OrgFacts, seal: str | None, stored: bytes, seq: int) -> bytes:
    """Return the payload of an entry of the server, which is about no person.

    Raises KeyNotRestored, SealingError, MalformedSealedPayload.
    """
    if seal is None:
        return stored
    payload = Opener(org, sealer.keys(org), {}).payload(seal, stored, seq)
    if payload is None:
        raise SealingError("it is sealed for a person")
    return payload


async def opener(sealer: Sealer, org: OrgFacts, refs: Iterable[str | None]) -> Opener:
    """An opener for these refs. Their keys are read from the database now, never from a cache."""
    keys = sealer.keys(org)
    distinct = {ref for ref in refs if ref is not None and ref.startswith(sealing.REF_PREFIX)}
    living = await sealer.living(org, sorted(distinct))
    return Opener(org, keys, open_people(keys, org, living.rows), living.removed)


async def ref_of(sealer: Sealer, org: OrgFacts, name: str) -> str | None:
    """The ref of a person in a sealing org, or None."""
    keys = sealer.keys(org)
    _, rows = await sealer.find(org, [keys.lookup(name)])
    return next(iter(open_people(keys, org, rows)), None)
