"""The state of the register: a fold over the changes in the trail `system`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ledger.core.register.blocks import RecordedBlocks
from ledger.core.register.changes import (
    BLOCKS,
    Change,
    ChangeKind,
    FaultSeqs,
    RecordedBlock,
    erased_id,
)


class RecordedFreeze(NamedTuple):
    """Why an org is frozen, and the faults of the verification that froze it, if one did."""

    reason: str
    faults: FaultSeqs | None


class StoredState(msgspec.Struct, array_like=True, frozen=True):
    """A state as bytes: rows as (table, key, seq, mac, org id), the other members by org id."""

    rows: list[tuple[str, str, int, str, int | None]]
    frozen: list[tuple[int, str, FaultSeqs | None]]
    accepted: list[tuple[int, FaultSeqs]]
    erased: list[int]
    restored: list[tuple[int, int]] = []
    blocks: list[tuple[str, RecordedBlock]] = []

    def encoded(self) -> bytes:
        """Return the bytes, for :meth:`RegisterState.decoded`."""
        return msgspec.msgpack.encode(self)


class RegisterState:
    """The newest MAC of each row, freezes, erasures and blocks. One instance is changed by one folder, in the order of seqs."""

    def __init__(self) -> None:
        self.frozen: dict[int, RecordedFreeze] = {}
        self.accepted: dict[int, FaultSeqs] = {}
        self.restored: dict[int, int] = {}
        """The number of entries of an org that last came back from its archive."""
        self.blocks = RecordedBlocks()
        self._rows: dict[tuple[str, str], tuple[int, str]] = {}
        self._orgs: dict[tuple[str, str], int | None] = {}
        self._erased: set[int] = set()

    def apply(self, seq: int, kind: ChangeKind, change: Change) -> None:
        """Apply the change of the entry at a seq."""
        if kind is ChangeKind.ORG_RESTORED:
            self._forget(change.org_id)
        for row in change.rows:
            self._rows[row.table, row.key] = seq, row.mac
            self._orgs[row.table, row.key] = change.org_id
            if row.table == BLOCKS and change.block is not None:
                self._note_block(row.key, change.block)
        org_id = change.org_id
        if org_id is None:
            return
        if kind is ChangeKind.FROZEN:
            self.frozen[org_id] = RecordedFreeze(change.reason or "", change.faults)
        elif kind is ChangeKind.THAWED:
            self.frozen.pop(org_id, None)
            if change.faults is not None:
                self.accepted[org_id] = change.faults
        elif kind is ChangeKind.ORG_RESTORED and change.entries is not None:
            self.restored[org_id] = change.entries
        elif kind is ChangeKind.ERASED and change.ref is not None:
            self._erased.add(erased_id(org_id, change.ref))

    def _note_block(self, digest: str, block: RecordedBlock) -> None:
        for old in self.blocks.put(digest, block):
            self._drop((BLOCKS, old))

    def _forget(self, org_id: int | None) -> None:
        """Drop the rows and the freeze of an org that comes back from its archive without them.

        None: the platform's API keys.
        """
        if org_id is not None:
            self.frozen.pop(org_id, None)
            self.accepted.pop(org_id, None)
        for place in [place for place, org in self._orgs.items() if org == org_id]:
            self._drop(place)

    def _drop(self, place: tuple[str, str]) -> None:
        del self._rows[place], self._orgs[place]
        if place[0] == BLOCKS:
            self.blocks.drop(place[1])

    def mac(self, table: str, key: str) -> tuple[int, bytes] | None:
        """Return the seq of a row's newest change and the MAC that it has since; None without one."""
        found = self._rows.get((table, key))
        return None if found is None else (found[0], bytes.fromhex(found[1]))

    def newest_mac(self, table: str, key: str) -> str | None:
        """Return the MAC that a row has since its newest change, as hexadecimal digits."""
        found = self._rows.get((table, key))
        return None if found is None else found[1]

    def org_of(self, table: str, key: str) -> int | None:
        """Return the org of a row; None for one that concerns no single org, or is unknown."""
        return self._orgs.get((table, key))

    def keys(self, table: str, org_id: int | None) -> Iterable[str]:
        """Return the primary keys of the rows of a table that belong to an org (None: platform)."""
        return [key for (name, key), org in self._orgs.items() if name == table and org == org_id]

    def is_erased(self, org_id: int, ref: str) -> bool:
        """Return whether the person with this ref was erased."""
        return erased_id(org_id, ref) in self._erased

    def stored(self) -> StoredState:
        """Return a copy of the state that can be encoded beside later changes."""
        rows = [
            (table, key, seq, mac, self._orgs[table, key])
            for (table, key), (seq, mac) in self._rows.items()
        ]
        frozen = [(org_id, freeze.reason, freeze.faults) for org_id, freeze in self.frozen.items()]
        accepted, restored = list(self.accepted.items()), list(self.restored.items())
        blocks = self.blocks.items()
        return StoredState(rows, frozen, accepted, list(self._erased), restored, blocks)

    @classmethod
    def decoded(cls, data: bytes) -> RegisterState:
        """Return the state that :meth:`StoredState.encoded` returned. Raises msgspec.MsgspecError."""
        stored, state = msgspec.msgpack.decode(data, type=StoredState), cls()
        for table, key, seq, mac, org_id in stored.rows:
            state._rows[table, key] = seq, mac
            state._orgs[table, key] = org_id
        state.frozen = {
            org_id: RecordedFreeze(reason, faults) for org_id, reason, faults in stored.frozen
        }
        state.accepted = dict(stored.accepted)
        state.restored = dict(stored.restored)
        state._erased = set(stored.erased)
        for digest, block in stored.blocks:
            state.blocks.put(digest, block)
        return state
