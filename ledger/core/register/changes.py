"""Changes of rows that decide, as entries of the trail `system`.

An entry that changes the register has a member ``register`` in its payload. It stands in the same
transaction as the change of the row, so neither exists without the other. ``docs/format.md``
describes the members.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal

import msgspec
from blake3 import blake3

from ledger.chain import Draft
from ledger.entry import payload_digest, search_tag

ORGS: Final = "orgs"
API_KEYS: Final = "api_keys"
BLOCKS: Final = "address_blocks"
ORG_LIMITS: Final = "org_limits"
SERVER: Final = "server"
"""The actor of what no caller asked for."""


class ChangeKind(StrEnum):
    """The event types of entries that change the register."""

    ORG_CREATED = "quire.org_created"
    ORG_CHANGED = "quire.org_changed"
    ORG_RESTORED = "quire.org_restored"
    LIMITS_CHANGED = "quire.limits_changed"
    KEY_CREATED = "quire.key_created"
    KEY_CHANGED = "quire.key_changed"
    KEY_ROTATED = "quire.key_rotated"
    KEY_REVOKED = "quire.key_revoked"
    FROZEN = "quire.org_frozen"
    THAWED = "quire.org_thawed"
    ERASED = "quire.subject_erased"
    ADDRESS_BLOCKED = "quire.address_blocked"
    ADDRESS_UNBLOCKED = "quire.address_unblocked"


class FaultSeqs(msgspec.Struct, frozen=True):
    """Faults of a verification: their exact count, and the seqs of the first ones."""

    count: int
    seqs: list[int]

    def covers(self, other: FaultSeqs) -> bool:
        """Return whether all faults of another verification are among these."""
        return other.count <= self.count and set(other.seqs) <= set(self.seqs)


class RegisteredRow(msgspec.Struct, frozen=True):
    """A row and its MAC, as hexadecimal digits, from this entry on."""

    table: str
    key: str
    mac: str


class RecordedBlock(msgspec.Struct, frozen=True, omit_defaults=True):
    """A block of an address, whose digest is the key of its row; times in µs since the Unix epoch.

    ``network`` is the range around the address that names no person. ``level`` counts the blocks in a
    row that the server made by itself. ``lifted_us`` is 0 unless the block was lifted.
    """

    id: str
    network: str
    since_us: int
    until_us: int
    level: int = 0
    lifted_us: int = 0

    def is_live(self, now_us: int) -> bool:
        """Return whether the address is blocked at a time."""
        return not self.lifted_us and now_us < self.until_us


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """The member ``register`` of a payload.

    ``org_id`` is that of a frozen, thawed or restored org, or of an erased person; of a ``block`` that
    of `system`. ``faults`` are
    those for which a verification froze the org, or which its thaw accepts; ``ref`` is the erased
    person's. ``entries`` of a restored org came back: what was only in its old database did not.
    """

    rows: list[RegisteredRow] = []
    org_id: int | None = None
    reason: str | None = None
    faults: FaultSeqs | None = None
    ref: str | None = None
    entries: int | None = None
    block: RecordedBlock | None = None


class _LostRange(msgspec.Struct):
    first_seq: int
    last_seq: int


class _Loss(msgspec.Struct):
    event_type: Literal["quire.loss_accepted"]
    lost: _LostRange


class _Payload(msgspec.Struct):
    event_type: ChangeKind
    register: Change


def row(table: str, key: str, mac: bytes) -> RegisteredRow:
    """Return a row with its MAC."""
    return RegisteredRow(table, key, mac.hex())


def change_draft(
    kind: ChangeKind, change: Change, *, actor: str = SERVER, details: Mapping[str, object]
) -> Draft:
    """Return the entry of a change, for a trail that keeps plain identities.

    ``details`` are members for people who read the trail.
    """
    action = kind.rpartition("_")[2]
    told = {"event_type": kind, "actor": actor, "action": action, **details, "register": change}
    payload = msgspec.json.encode(told)
    return Draft(
        action, actor, None, kind.value, None, None, payload_digest(payload, None), None, None,
        search_tag(actor), search_tag(None), payload,
    )  # fmt: skip


def change_of(payload: bytes) -> tuple[ChangeKind, Change] | None:
    """Return the change that a payload of the trail `system` records; None if it records none."""
    try:
        found = msgspec.json.decode(payload, type=_Payload)
    except msgspec.MsgspecError:
        return None  # another entry of the server: appends of callers can't have these types
    return found.event_type, found.register


def accepts_loss(payload: bytes, first: int, last: int) -> bool:
    """Return whether a payload accepts that the entries ``first`` to ``last`` are lost."""
    try:
        lost = msgspec.json.decode(payload, type=_Loss).lost
    except msgspec.MsgspecError:
        return False
    return lost.first_seq <= first and last <= lost.last_seq


def erased_id(org_id: int, ref: str) -> int:
    """Return 64 bits that name an erased person: a million of them take little memory."""
    return int.from_bytes(blake3(f"{org_id}/{ref}".encode()).digest(length=8))
