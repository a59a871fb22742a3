"""Verifies one entry: by itself, its link to the entry before it, its proof in the signed tree."""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

import msgspec

from ledger import merkle, tiles
from ledger.chain import UNKNOWN_KEY, StoredEntry, TrailFault, check_entry
from ledger.core.verification.work.extent import SETTLE_POLL_S, SETTLE_S
from ledger.core.verification.work.faults import TRAIL_KINDS
from ledger.core.verification.work.trust import NoteJudge, TrailTrust
from ledger.entry import RecordId, entry_hash, format_time, from_datetime, record_id
from ledger.errors import MerkleError, TileError
from ledger.keys import SigningKeyring
from ledger.storage import trees
from ledger.storage.database import Database
from ledger.storage.entries import heads
from ledger.storage.trees import MissingTile, StoredCheckpoint
from ledger.verdict import NOT_CHECKED, Check, Verdict, combine


class Inclusion(NamedTuple):
    """The answer on an entry's inclusion, and the fault that is the reason for False.

    ``expected``: a tree with the entry is known to be signed, so its inclusion is required.
    """

    verdict: Check
    fault: TrailFault | None = None
    expected: bool = False


async def check_inclusion(
    database: Database, row: StoredEntry, trust: TrailTrust | None
) -> Inclusion:
    """Prove a stored entry's leaf in the newest checkpoint, which a trusted key must have signed.

    Not checked without trusted keys, and before a checkpoint covers the entry. False
    if a checkpoint that covered it is missing.
    """
    if trust is None:
        return Inclusion(NOT_CHECKED)
    known = max((head.size for head in trust.trail.remembered), default=0)
    checkpoint = await trees.newest_checkpoint(database, row.org_id)
    deadline = time.monotonic() + SETTLE_S
    while (checkpoint is None or checkpoint.size <= row.seq) and row.seq < known:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(SETTLE_POLL_S)
        checkpoint = await trees.newest_checkpoint(database, row.org_id)
    if checkpoint is None or checkpoint.size <= row.seq:
        return await _uncovered(database, row, known)
    return _doubt(row, checkpoint, trust) or await _prove(database, row, checkpoint)


async def _uncovered(database: Database, row: StoredEntry, known: int) -> Inclusion:
    """The answer if no stored checkpoint covers the entry: it is new, or a checkpoint is missing.

    The signer remembers the size ``known`` before the database has its checkpoint. So only a
    size larger than the trail proves a loss.
    """
    head_seq, _hash, _time = await heads.head(database, row.org_id)
    if known <= max(row.seq, head_seq + 1):
        return Inclusion(NOT_CHECKED, expected=row.seq < known)
    reason = f"a tree of {known} entries was signed, but no stored checkpoint covers this entry"
    return _fault(row, TRAIL_KINDS.rolled_back, reason)


def _doubt(row: StoredEntry, checkpoint: StoredCheckpoint, trust: TrailTrust) -> Inclusion | None:
    """The answer if the checkpoint itself has a fault, else None."""
    size = checkpoint.size
    if any(head.size == size and head.root != checkpoint.root for head in trust.trail.remembered):
        return _fault(row, TRAIL_KINDS.forked, f"another root was signed for size {size}")
    judged = NoteJudge(trust.trail, TRAIL_KINDS).judge(size, checkpoint.root, checkpoint.note)
    for kind, reason in judged.faults:
        return _fault(row, kind, f"the checkpoint of size {size}: {reason}")
    return None


async def _prove(database: Database, row: StoredEntry, checkpoint: StoredCheckpoint) -> Inclusion:
    size = checkpoint.size
    try:
        stored = await trees.tiles(database, row.org_id, tiles.tiles_for_inclusion(row.seq, size))
        proof = tiles.inclusion_proof(row.seq, size, stored)
        merkle.verify_inclusion(row.seq, size, entry_hash(row.leaf), proof, checkpoint.root)
    except MissingTile as error:
        return _fault(row, TRAIL_KINDS.tile_missing, str(error))
    except (MerkleError, TileError) as error:
        return _fault(row, "not_included", f"it is not in the signed tree of size {size}: {error}")
    return Inclusion(verdict=True)


def _fault(row: StoredEntry, kind: str, reason: str) -> Inclusion:
    return Inclusion(verdict=False, fault=TrailFault(row.seq, kind, reason))


async def signed_size(database: Database, org_id: int, trust: TrailTrust | None) -> int:
    """The number of entries known to be signed, by the newest checkpoint or the signer's memory."""
    if trust is None:
        return 0
    known = max((head.size for head in trust.trail.remembered), default=0)
    checkpoint = await trees.newest_checkpoint(database, org_id)
    if checkpoint is None or checkpoint.size <= known:
        return known
    judge = NoteJudge(trust.trail, TRAIL_KINDS)
    judged = judge.judge(checkpoint.size, checkpoint.root, checkpoint.note)
    return known if judged.faults else checkpoint.size


INCLUSION_NOT_CHECKED: Final = Inclusion(NOT_CHECKED)
CHECK_OF_KIND: Final = {
    "hash_mismatch": "hash_valid",
    "leaf_malformed": "hash_valid",
    "column_mismatch": "hash_valid",
    "foreign_org": "hash_valid",
    "signature_invalid": "signature_valid",
    "link_broken": "chain_valid",
    "seq_mismatch": "chain_valid",
    "missing": "chain_valid",
    "inserted": "chain_valid",
    "payload_mismatch": "payload_valid",
}


class RecordChecks(msgspec.Struct, frozen=True):
    """One answer per check: true, false, or ``"not_checked"``."""

    hash_valid: Check
    """Whether the leaf is canonical, has the stored hash, and agrees with the columns beside it."""
    signature_valid: Check
    """Whether the signature over the entry hash verifies."""
    chain_valid: Check
    """Whether the leaf names the hash of the entry before it."""
    payload_valid: Check
    """Whether the payload has the digest and the size that the leaf gives."""
    included: Check
    """Whether the entry is in the newest signed tree."""


class EntryResult(msgspec.Struct, frozen=True):
    """The verdict on one entry; ``timestamp`` is the time at which it was written, RFC 3339.

    ``unsigned_entries`` is 1 if no signed checkpoint covers the entry yet.
    """

    valid: bool
    verdict: Verdict
    checks: RecordChecks
    errors: list[TrailFault]
    record_id: str
    timestamp: str
    unsigned_entries: int = 0


def verify_entry(
    row: StoredEntry,
    before: StoredEntry | None,
    org: str,
    keyring: SigningKeyring,
    *,
    timestamp: str,
    inclusion: Inclusion = INCLUSION_NOT_CHECKED,
    late: bool = False,
    rows: int = 1,
) -> EntryResult:
    """Check one stored entry. ``before`` is the entry at ``seq - 1``, or None.

    Hash, signature, payload and columns are checked for this entry alone. The link
    is right if the leaf names the hash of the entry before: the stored one or, as that may
    be altered, the one computed from its leaf. ``inclusion`` is the answer of
    :func:`check_inclusion`. ``late``: the entry should be signed by now, so its
    inclusion is required, as if the signer remembered a tree with it. ``rows`` is the number
    of rows with its seq.
    """
    faults = _faults(row, before, org, keyring)
    if rows > 1:
        reason = f"{rows} rows have this seq, but only one of them can be the entry"
        faults = [*faults, TrailFault(row.seq, "inserted", reason)]
    wrong = [fault for fault in faults if fault.kind != UNKNOWN_KEY]
    failed = {CHECK_OF_KIND[fault.kind] for fault in wrong}
    unsure = {"signature_valid"} if len(wrong) < len(faults) else set()
    unread = any(fault.kind == "leaf_malformed" for fault in faults)

    def answer(check: str) -> Check:
        if check == "included":
            return inclusion.verdict
        if check in failed:
            return False
        return NOT_CHECKED if unread or check in unsure else True

    if inclusion.fault is not None:
        faults, wrong = [*faults, inclusion.fault], [*wrong, inclusion.fault]
    answers = {name: answer(name) for name in RecordChecks.__struct_fields__}
    unsigned = answers["included"] == NOT_CHECKED
    late = late or inclusion.expected
    required = [name for name in answers if name != "included" or late or not unsigned]
    verdict = combine(answers, required, fault_count=len(wrong))
    return EntryResult(
        valid=verdict.valid,
        verdict=verdict,
        checks=RecordChecks(**answers),
        errors=faults,
        record_id=record_id(row.org_id, from_datetime(row.anchored_at), row.seq),
        timestamp=timestamp,
        unsigned_entries=int(unsigned),
    )


def missing_entry(place: RecordId, reason: str) -> EntryResult:
    """The verdict on an entry that was in the trail and is missing."""
    return EntryResult(
        valid=False,
        verdict=Verdict.REFUTED,
        checks=RecordChecks(
            NOT_CHECKED,
            NOT_CHECKED,
            chain_valid=False,
            payload_valid=NOT_CHECKED,
            included=NOT_CHECKED,
        ),
        errors=[TrailFault(place.seq, "missing", reason)],
        record_id=record_id(*place),
        timestamp=format_time(place.anchored_us),
    )


def _faults(
    row: StoredEntry, before: StoredEntry | None, org: str, keyring: SigningKeyring
) -> list[TrailFault]:
    if row.seq > 0 and before is None:
        missing = TrailFault(row.seq, "missing", f"the entry before it, {row.seq - 1}, is missing")
        return [*check_entry(row, org, keyring, None), missing]
    links = (b"",) if before is None else (before.entry_hash, entry_hash(before.leaf))
    faults: list[TrailFault] = []
    for link in links:
        faults = check_entry(row, org, keyring, link)
        if all(fault.kind != "link_broken" for fault in faults):
            break
    return faults
