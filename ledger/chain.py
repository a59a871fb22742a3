"""The hash chain: drafts become entries, and entries are checked.

Each leaf holds the hash of the leaf before it, so an entry fixes all of its
past. :func:`extend` is the only code that makes entries; :func:`check_entry`
is the reference for a correct entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Final, NamedTuple

import msgspec
from blake3 import blake3

from ledger.entry import (
    Leaf,
    PayloadDigest,
    decode_leaf,
    encode_leaf_unchecked,
    entry_hash,
    format_time,
    from_datetime,
    search_tag,
    to_datetime,
)
from ledger.errors import MalformedLeaf, UnknownKey
from ledger.keys import SigningKey, SigningKeyring
from ledger.shapes import shape

EMPTY_SEQ: Final = -1
"""``Head.seq`` of a trail without entries."""


class ChainHead(NamedTuple):
    """The newest entry of a trail: seq (-1 when empty), hash (b"" when empty), time in µs."""

    seq: int
    entry_hash: bytes
    anchored_us: int


EMPTY_HEAD: Final = ChainHead(EMPTY_SEQ, b"", 0)


class Draft(msgspec.Struct, gc=False):
    """An event ready for the chain: all fields of an entry that do not depend on the chain.

    Actor and subject are the values of the leaf (refs where the org seals),
    ``payload`` holds the bytes to store.
    """

    action: str | None
    actor: str | None
    data_classification: str | None
    event_type: str | None
    legal_basis: str | None
    outcome: str | None
    digest: PayloadDigest
    subject: str | None
    timestamp: str | None
    actor_tag: int
    subject_tag: int
    payload: bytes


class StoredEntry(NamedTuple):
    """One stored row, columns in table order."""

    org_id: int
    seq: int
    anchored_at: datetime
    actor_tag: int
    subject_tag: int
    entry_hash: bytes
    signature: bytes
    leaf: bytes
    payload: bytes


FAULT_KIND: Final = shape(
    "FaultKind",
    "A kind of fault in a trail or a log; docs/verification.md says what each means.",
    "payload_mismatch",
)


UNKNOWN_KEY: Final = "unknown_key"
"""The kind of the fault of an entry whose key is not in the keyring."""


class TrailFault(msgspec.Struct, frozen=True):
    """One fault of a trail, at ``seq``; docs/verification.md lists the kinds."""

    seq: Annotated[int, msgspec.Meta(examples=[41], extra_json_schema={"minimum": -1})]
    """The seq of the entry at fault; -1: the fault is in the anchor log, or of no entry."""
    kind: Annotated[str, FAULT_KIND]
    """What kind of fault it is."""
    reason: Annotated[str, msgspec.Meta(examples=["the payload was altered, cut or exchanged"])]
    """What was found, in words."""


NO_FAULT_OR_ONE: Final[list[object]] = [
    [],
    [{"seq": 41, "kind": "payload_mismatch", "reason": "the payload was altered"}],
]
"""Examples of the faults of a trail."""


def next_time_us(now_us: int, head: ChainHead) -> int:
    """Return the time of the entries after a head: the clock's, or the first after the head's."""
    return max(now_us, head.anchored_us + 1)


def extend(
    org_id: int, org: str, head: ChainHead, drafts: Sequence[Draft], now_us: int, key: SigningKey
) -> tuple[list[StoredEntry], ChainHead]:
    """Chain, hash and sign drafts onto a head; return the entries and the new head.

    All entries of one call share ``anchored_at``: the later of ``now_us`` and the
    head's time. Pure: the same input gives the same entries.
    """
    if not drafts:
        return [], head
    anchored_us = max(now_us, head.anchored_us)
    anchored_text = format_time(anchored_us)
    anchored_at = to_datetime(anchored_us)
    key_id, sign, encode = key.key_id, key.sign, encode_leaf_unchecked
    seq, digest = head.seq, head.entry_hash
    previous = digest.hex() if seq >= 0 else None
    entries: list[StoredEntry] = []
    for draft in drafts:
        seq += 1
        leaf = encode(
            Leaf(
                draft.action,
                draft.actor,
                anchored_text,
                draft.data_classification,
                draft.event_type,
                key_id,
                draft.legal_basis,
                org,
                draft.outcome,
                draft.digest,
                previous,
                seq,
                draft.subject,
                draft.timestamp,
            )
        )
        digest = sha256(b"\x00" + leaf).digest()
        previous = digest.hex()
        entries.append(
            StoredEntry(
                org_id,
                seq,
                anchored_at,
                draft.actor_tag,
                draft.subject_tag,
                digest,
                sign(digest),
                leaf,
                draft.payload,
            )
        )
    return entries, ChainHead(seq, digest, anchored_us)


def check_entry(
    row: StoredEntry, org: str, keyring: SigningKeyring, previous_hash: bytes | None
) -> list[TrailFault]:
    """Check one stored row and return its faults, in the order of the checks.

    ``previous_hash`` is the stored hash of the entry before (b"" for the first
    entry of a trail), or None if it is not known: then the link is not checked.
    """
    faults: list[TrailFault] = []

    def fault(kind: str, reason: str) -> None:
        faults.append(TrailFault(row.seq, kind, reason))

    if entry_hash(row.leaf) != row.entry_hash:
        fault("hash_mismatch", "the leaf does not hash to the stored entry hash")
    try:
        leaf = decode_leaf(row.leaf)
    except MalformedLeaf as error:
        fault("leaf_malformed", str(error))
        return faults
    _check_signature(row, leaf, keyring, fault)
    _check_columns(row, leaf, org, fault)
    if leaf.payload.blake3 != blake3(row.payload).hexdigest():
        fault("payload_mismatch", "the payload does not match the digest in the leaf")
    elif leaf.payload.size != len(row.payload):
        fault("payload_mismatch", "the payload does not have the size in the leaf")
    if previous_hash is not None and (leaf.previous_hash or "") != previous_hash.hex():
        fault("link_broken", "previous_hash is not the hash of the entry before")
    return faults


def _check_signature(
    row: StoredEntry, leaf: Leaf, keyring: SigningKeyring, fault: Callable[[str, str], None]
) -> None:
    try:
        key = keyring.get(leaf.key)
    except UnknownKey as error:
        fault(UNKNOWN_KEY, str(error))
        return
    if not key.verify(row.entry_hash, row.signature):
        fault("signature_invalid", f"key {leaf.key!r} did not make the signature of this entry")


@lru_cache(maxsize=16)
def _time_text(at: datetime) -> str:
    """Return a time as a leaf has it; cached, as all entries of a block have the same."""
    return format_time(from_datetime(at))


def _check_columns(
    row: StoredEntry, leaf: Leaf, org: str, fault: Callable[[str, str], None]
) -> None:
    if leaf.org != org:
        fault("foreign_org", f"the leaf belongs to org {leaf.org!r}")
    if leaf.seq != row.seq:
        fault("seq_mismatch", f"the leaf says seq {leaf.seq}: the row was moved")
    if leaf.anchored_at != _time_text(row.anchored_at):
        fault("column_mismatch", "column anchored_at differs from the leaf")
    if search_tag(leaf.actor) != row.actor_tag:
        fault("column_mismatch", "column actor_tag differs from the leaf")
    if search_tag(leaf.subject) != row.subject_tag:
        fault("column_mismatch", "column subject_tag differs from the leaf")
