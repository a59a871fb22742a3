"""Payload lines of a bundle: sealed, or with the key that opens this one payload."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from blake3 import blake3

from ledger import sealing
from ledger.chain import StoredEntry
from ledger.core.org import OrgFacts
from ledger.core.sealing.opener import Opener, open_people
from ledger.core.sealing.sealer import Sealer
from ledger.entry import Leaf
from ledger.errors import FormatError, SealingError
from ledger.evidence.format import MEMBER_BYTES_MAX, Field, PayloadLine, State
from ledger.storage.entries.blocks import DamagedTrail

LINE_BYTES: Final = 512
"""An upper bound of a payload line's bytes without its payload."""
PAYLOAD_BYTES_MAX: Final = (MEMBER_BYTES_MAX - LINE_BYTES) // 4 * 3
"""The largest payload that fits into a member as base64; a larger one is withheld."""


class Disclosure(NamedTuple):
    """The fields whose plaintext may be shown, and the entries (None: all) for which it may."""

    fields: frozenset[Field]
    seqs: Collection[int] | None

    def shows(self, field: Field, seq: int) -> bool:
        """True if this field of this entry may be shown."""
        return field in self.fields and (self.seqs is None or seq in self.seqs)


class Discloser:
    """Makes payload lines of one org, and collects the requested names.

    Erasures are read from the database for each batch, never from a cache.
    """

    def __init__(self, sealer: Sealer, org: OrgFacts, disclosure: Disclosure | None) -> None:
        self._sealer = sealer
        self._org = org
        self._keys = sealer.keys(org) if org.seals else None
        self._disclosure = disclosure or Disclosure(frozenset(), ())
        self.names: dict[str, str] = {}

    @property
    def names_asked(self) -> bool:
        """True if the bundle is to have names of persons."""
        return bool(self._disclosure.fields & {"actor", "subject"})

    async def look_up(self, entries: Sequence[tuple[StoredEntry, Leaf]]) -> SubjectLookup:
        """Read the keys of the persons in these entries; adds the requested names to ``names``."""
        if self._keys is None:
            return SubjectLookup(None, frozenset())
        seals = {leaf.payload.seal for _, leaf in entries}
        named = {
            ref
            for _, leaf in entries
            for ref, field in self._named(leaf)
            if self._disclosure.shows(field, leaf.seq)
        }
        opened = {
            leaf.payload.seal for _, leaf in entries if self._disclosure.shows("payload", leaf.seq)
        }
        refs = sorted(ref for ref in seals | named if ref and ref.startswith(sealing.REF_PREFIX))
        rows, removed = await self._sealer.living(self._org, refs)
        wanted = (row for row in rows if row.ref in opened | named)
        people = open_people(self._keys, self._org, wanted)
        self.names |= {ref: people[ref].name for ref in named & people.keys()}
        return SubjectLookup(
            Opener(self._org, self._keys, people),
            frozenset([sealing.ORG_SEAL, *(row.ref for row in rows)]),
            removed,
        )

    def line(self, entry: StoredEntry, leaf: Leaf, lookup: SubjectLookup) -> PayloadLine:
        """The line of one payload. Raises DamagedTrail if the payload does not match its leaf."""
        payload, seal = entry.payload, leaf.payload.seal
        if blake3(payload).hexdigest() != leaf.payload.blake3 or len(payload) != leaf.payload.size:
            raise DamagedTrail(
                f"the payload of entry {entry.seq} of org {self._org.slug} does not have the "
                "digest or size in its leaf. Run a full verification of this trail"
            )
        if len(payload) > PAYLOAD_BYTES_MAX:
            return PayloadLine(None, None, entry.seq, "withheld")
        key, state = None, self._state(leaf, lookup)
        if state == "disclosed" and seal is not None and lookup.opener is not None:
            key = self._key(entry, seal, lookup.opener)
        return PayloadLine(None if key is None else key.hex(), payload, entry.seq, state)

    def _state(self, leaf: Leaf, lookup: SubjectLookup) -> State:
        seal = leaf.payload.seal
        if seal is None:
            return "plain"
        if lookup.opener is not None and lookup.opener.is_lost(seal, leaf.seq):
            # The format has no state for a key that was not restored; "erased" would be wrong.
            if seal not in lookup.living or seal == sealing.ORG_SEAL:
                return "sealed"
        elif seal in lookup.removed:
            return "sealed"  # nobody erased the person
        elif seal not in lookup.living:
            return "erased"
        return "disclosed" if self._disclosure.shows("payload", leaf.seq) else "sealed"

    def _key(self, entry: StoredEntry, seal: str, opener: Opener) -> bytes | None:
        try:
            return opener.payload_key(seal, entry.payload)
        except (SealingError, FormatError) as error:
            raise DamagedTrail(
                f"the payload of entry {entry.seq} of org {self._org.slug} can't be opened: "
                f"{error}. Run a full verification of this trail"
            ) from None

    @staticmethod
    def _named(leaf: Leaf) -> list[tuple[str, Field]]:
        people: Mapping[Field, str | None] = {"actor": leaf.actor, "subject": leaf.subject}
        return [(ref, field) for field, ref in people.items() if ref is not None]


class SubjectLookup(NamedTuple):
    """The persons in a batch: an opener for those to disclose, and the seals that still have keys.

    ``removed`` are refs whose rows were removed, though nobody erased the persons.
    """

    opener: Opener | None
    living: frozenset[str]
    removed: frozenset[str] = frozenset()
