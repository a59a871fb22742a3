"""The check before each batch: unless the persisted head is right, nothing is written.

The head's entry is read again, its hash recomputed and its signature checked. If the head
is not the one this process saw last, the entries between must be a valid
extension that another process wrote; anything else is tampering, a restored
backup or a lagging replica.

An entry whose signing key this machine lacks is no fault: it can't be checked here. Where
nothing else is wrong, the append is refused and the org is not frozen.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.chain import EMPTY_HEAD, UNKNOWN_KEY, ChainHead, StoredEntry, check_entry
from ledger.core.sequencer.lane import KnownHead
from ledger.entry import HASH_BYTES, MAX_SEQ, decode_leaf, from_datetime
from ledger.errors import SigningKeyMissing
from ledger.keys import SigningKeyring
from ledger.storage.entries.blocks import DamagedTrail
from ledger.storage.entries.heads import IMPOSSIBLE_US, LockedHead
from ledger.storage.trail import AppendTransaction

PAGE_BLOCKS: Final = 128
"""Blocks of a page of entries at most; a page of large entries ends earlier."""
MISSING: Final = "is missing: no block ends there"
MAX_WALK_ENTRIES: Final = 50_000
"""A longer extension is checked at its two ends only; full verification checks the rest."""


class HeadClaim(NamedTuple):
    """A locked head row, and what it is compared with.

    ``beyond`` is True if the trail holds entries after the row's head.
    """

    row: LockedHead | None
    known: KnownHead
    beyond: bool


class HeadEntries:
    """Checks entries of one org's trail, in their order.

    ``lacking`` is set while the newest of them are signed with keys that this machine lacks. A later
    entry that links to them and is signed with a known key vouches for them: whoever wrote it had
    the keys.
    """

    def __init__(self, org: str, keyring: SigningKeyring) -> None:
        self._org = org
        self._keyring = keyring
        self.lacking: SigningKeyMissing | None = None

    def fault(self, entry: StoredEntry, previous_hash: bytes | None) -> str | None:
        """Return why an entry is not intact, or None if it is, but for a key that may be missing."""
        faults = check_entry(entry, self._org, self._keyring, previous_hash)
        wrong = [fault for fault in faults if fault.kind != UNKNOWN_KEY]
        if wrong:
            return wrong[0].reason
        if not faults:
            self.lacking = None
        elif self.lacking is None:
            self.lacking = SigningKeyMissing(self._org, entry.seq, decode_leaf(entry.leaf).key)
        return None


async def head_fault(
    transaction: AppendTransaction,
    org_id: int,
    org: str,
    claim: HeadClaim,
    keyring: SigningKeyring,
) -> str | SigningKeyMissing | None:
    """Returns the reason why the trail must not be extended, or None if its head is right.

    SigningKeyMissing: nothing is wrong as far as it was checked, but an entry needs a key that
    the keyring lacks.
    """
    checks = HeadEntries(org, keyring)
    return await _fault(transaction, org_id, claim, checks) or checks.lacking


async def _fault(
    transaction: AppendTransaction, org_id: int, claim: HeadClaim, checks: HeadEntries
) -> str | None:
    locked, (acknowledged, seen), beyond = claim
    if locked is None:
        return "the head row of the trail is missing"
    head = locked.head
    reason = None if locked.is_known else _row_fault(locked, checks)
    if reason is not None or head == acknowledged == seen:
        return reason
    for known in (acknowledged, seen):
        if known is not None and head != known and head.seq <= known.seq:
            return _behind(head, known)
    if beyond:
        return f"the head row says seq {head.seq}, but the trail holds later entries"
    if seen is None or seen.seq < 0 or head == seen:
        return None
    return await _fault_since(transaction, org_id, seen, head, checks)


def _row_fault(locked: LockedHead, checks: HeadEntries) -> str | None:
    head, entry = locked.head, locked.entry
    if head == EMPTY_HEAD:
        return None
    if not _is_possible(head) or head.anchored_us == IMPOSSIBLE_US:
        return f"the head row (seq {head.seq}) has an impossible seq, hash or time"
    if entry is None:
        return f"the head's entry (seq {head.seq}) {locked.damage or MISSING}"
    if entry.entry_hash != head.entry_hash:
        return f"the head row and the head's entry (seq {head.seq}) hold different hashes"
    fault = checks.fault(entry, None)
    return fault and f"the head's entry (seq {head.seq}) is not intact: {fault}"


async def _fault_since(
    transaction: AppendTransaction,
    org_id: int,
    seen: ChainHead,
    head: ChainHead,
    checks: HeadEntries,
) -> str | None:
    """Returns what is wrong with the entries after ``seen``, or None.

    Where retention dropped some of them since, the entries after the last dropped one count.
    """
    reason = await _extension_fault(transaction, org_id, seen, head, checks)
    dropped = None if reason is None else await transaction.departed(org_id)
    if dropped is None or not seen.seq <= dropped.seq < head.seq:
        return reason
    if head.seq - dropped.seq > MAX_WALK_ENTRIES:
        return None
    return await _extension_fault(transaction, org_id, dropped, head, checks)


async def _extension_fault(
    transaction: AppendTransaction,
    org_id: int,
    seen: ChainHead,
    head: ChainHead,
    checks: HeadEntries,
) -> str | None:
    try:
        if head.seq - seen.seq <= MAX_WALK_ENTRIES:
            return await _walk_fault(transaction, org_id, seen, head, checks)
        if await transaction.stored_hash(org_id, seen) != seen.entry_hash:
            return f"the entry at seq {seen.seq} is not the one that was acknowledged here"
    except DamagedTrail as error:
        return str(error)
    return None


async def _walk_fault(
    transaction: AppendTransaction,
    org_id: int,
    seen: ChainHead,
    head: ChainHead,
    checks: HeadEntries,
) -> str | None:
    at = seen
    async for page in transaction.entries_between(org_id, at, head, PAGE_BLOCKS):
        for entry in page:
            if entry.seq != at.seq + 1:
                return await _order_fault(transaction, org_id, at.seq + 1, entry.seq)
            fault = checks.fault(entry, at.entry_hash)
            if fault is not None:
                return f"the entry at seq {entry.seq} is not intact: {fault}"
            at = ChainHead(entry.seq, entry.entry_hash, from_datetime(entry.anchored_at))
    if at.seq < head.seq:
        return f"the entry at seq {at.seq + 1} is missing"
    return None if at == head else "the entries do not lead to the head row"


async def _order_fault(transaction: AppendTransaction, org_id: int, due: int, found: int) -> str:
    """Returns what is wrong where another entry was found than the one that was due.

    Blocks come in the order of their last seqs: if a later one holds the due entry, it also holds
    the found one.
    """
    if found < due or await transaction.holds(org_id, due):
        return f"the entry at seq {found} is stored more than once"
    return f"the entry at seq {due} is missing"


async def head_for_thaw(
    transaction: AppendTransaction, org_id: int, locked: LockedHead | None
) -> ChainHead:
    """Returns the head to extend after an operator accepts the trail as it is.

    This is the newest stored entry at or after the head row's seq, damaged or not, so that
    no entry lies beyond the new head. Without such an entry (the tail is missing) it is the
    head row's own. So a thaw never shortens the trail, and verification still
    finds the damaged or missing entries.
    """
    claimed = EMPTY_HEAD
    if locked is not None and _is_possible(locked.head):
        claimed = locked.head
    found = await transaction.newest(org_id)
    if found is None:
        return claimed._replace(anchored_us=0)
    # The head row's time may be edited and lie in the future, so the entry's is taken.
    return found if found.seq >= claimed.seq else claimed._replace(anchored_us=found.anchored_us)


async def beyond_acknowledged(
    transaction: AppendTransaction, org_id: int, found: ChainHead, seen: ChainHead | None
) -> tuple[ChainHead, str | None]:
    """Returns the head to extend after a thaw, and why the trail must not go on from there, or None.

    ``found`` is the end of the trail, ``seen`` the newest head that was acknowledged here. An entry
    that was altered in its place is not taken for the end: the trail goes on from the hash that was
    acknowledged.
    """
    if seen is None or found[:2] == seen[:2]:
        return found, None
    if found.seq == seen.seq:
        return seen, None
    if found.seq < seen.seq:
        return found, _behind(found, seen)
    dropped = await transaction.departed(org_id)
    if dropped is not None and dropped.seq >= seen.seq:
        return found, None
    try:
        same = await transaction.stored_hash(org_id, seen) == seen.entry_hash
    except DamagedTrail:
        same = False
    return found, None if same else _FORKED.format(seq=seen.seq)


_FORKED: Final = (
    "the entry at seq {seq} is not the one that was acknowledged here: bring it back, or accept its "
    "loss with: quire orgs accept-loss"
)


def _behind(head: ChainHead, seen: ChainHead) -> str:
    """The fault of a head that is not beyond the newest one that was acknowledged here."""
    if head.seq == seen.seq:
        return (
            f"the head at seq {head.seq} is not the one that was acknowledged here (a fork, or "
            "tampering)"
        )
    return (
        f"the trail went back: the head is at seq {head.seq}, but seq {seen.seq} was "
        "acknowledged here (a restored backup, a lagging replica or tampering). Bring the entries "
        "back, or accept their loss with: quire orgs accept-loss"
    )


def _is_possible(head: ChainHead) -> bool:
    return 0 <= head.seq < MAX_SEQ and len(head.entry_hash) == HASH_BYTES
