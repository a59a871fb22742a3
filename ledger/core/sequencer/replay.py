"""Idempotency inside a batch: which events are new, and which were written before.

The orgs' head rows are locked, so the stored uses can't change until commit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from ledger.chain import ChainHead, Draft, StoredEntry
from ledger.core.sequencer.request import AnswerLost, Appended, AppendRequest, KeyDigest
from ledger.errors import AppendRefused, IdempotencyMismatch
from ledger.rows import RowNotAuthentic
from ledger.storage import idempotency
from ledger.storage.entries.picked.receipts import Written, WrittenEntry
from ledger.storage.idempotency import KeyUse
from ledger.storage.trail import AppendTransaction

READ_LOCKED_BYTES: Final = 16 << 20
"""Raw bytes of earlier leaves that one transaction reads; more are read after it."""


class KeyUses:
    """The stored uses of keys with their entries, and the new uses of this batch."""

    def __init__(
        self,
        stored: Mapping[tuple[int, bytes], KeyUse],
        written: Mapping[int, Written],
    ) -> None:
        self._stored = stored
        self._added: dict[tuple[int, bytes], KeyUse] = {}
        self.written = written
        self.new: list[KeyUse] = []

    def earlier(self, org_id: int, digest: KeyDigest) -> KeyUse | None:
        """The earlier use of a key with this body, or None.

        Raises IdempotencyMismatch if the body differs, AnswerLost if an entry of
        the first answer is no longer in the trail, RowNotAuthentic for a row that this server did
        not write.
        """
        stored = self._stored.get((org_id, digest.key))
        use = stored or self._added.get((org_id, digest.key))
        if use is not None and not use.is_authentic:
            raise RowNotAuthentic(
                f"the stored answer to this idempotency key, from entry {use.first_seq} on, was "
                "changed or made in the database: nothing was written. Run a full verification, "
                "find out whether the event is in the trail, and send it under another key"
            )
        if use is not None and use.body != digest.body:
            raise IdempotencyMismatch(
                "this idempotency key was used before with another body; use a new key for a new "
                "event"
            )
        if stored is not None and self._is_lost(stored):
            raise AnswerLost(stored.first_seq)
        return use

    def _is_lost(self, use: KeyUse) -> bool:
        written = self.written[use.org_id]
        first = written.entries.get(use.first_seq)
        if first is not None and use.first_hash not in (b"", first.entry_hash):
            return True
        return any(
            seq not in written.entries and seq not in written.unread for seq in use.all_seqs()
        )

    def add(self, use: KeyUse) -> None:
        """Record a use that this batch makes."""
        self._added[use.org_id, use.key] = use
        self.new.append(use)


async def earlier_uses(
    transaction: AppendTransaction, digests: Collection[tuple[int, KeyDigest]], row_key: bytes
) -> KeyUses:
    """The earlier uses of these keys of orgs, and the entries of their first answers.

    Uses with another body are refused, so their entries are not read: no more entries are read
    than the requests have events.
    """
    keys = sorted({(org_id, digest.key) for org_id, digest in digests})
    found = await idempotency.find(transaction, keys, row_key)
    of_orgs: dict[int, list[KeyUse]] = {}
    for use in found.values():
        if use.is_authentic and (use.org_id, KeyDigest(use.key, use.body)) in digests:
            of_orgs.setdefault(use.org_id, []).append(use)
    written: dict[int, Written] = {}
    budget = READ_LOCKED_BYTES
    for org_id, of_org in of_orgs.items():
        written[org_id] = await idempotency.entries_of(transaction, org_id, of_org, budget)
        budget -= written[org_id].raw_bytes
    return KeyUses(found, written)


class PlacedRequest:
    """A request with the seq of each of its events, and the drafts that are new."""

    __slots__ = ("drafts", "replayed", "request", "seqs")

    def __init__(
        self, request: AppendRequest, seqs: Sequence[int], drafts: list[Draft], replayed: bool
    ) -> None:
        self.request = request
        self.seqs = seqs
        self.drafts = drafts
        self.replayed = replayed

    def appended(
        self,
        head: ChainHead,
        entries: Sequence[StoredEntry],
        written: Mapping[int, WrittenEntry],
        new: ChainHead,
    ) -> Appended:
        """The answer to the request.

        ``entries`` are those of the batch, from ``head.seq + 1`` on; ``written`` holds all
        earlier entries of the answer by seq; ``new`` is the head after the batch.
        """
        first = head.seq + 1
        if isinstance(self.seqs, range) and self.seqs and self.seqs[0] >= first:
            start = self.seqs[0] - first
            previous = entries[start - 1].entry_hash if start else head.entry_hash
            mine = entries[start : start + len(self.seqs)]
            return Appended(mine, previous, new, True, self.replayed)
        mixed = [entries[seq - first] if seq >= first else written[seq] for seq in self.seqs]
        return Appended(mixed, b"", new, False, self.replayed)


def assemble(
    requests: Sequence[AppendRequest],
    head_seq: int,
    at: datetime,
    uses: KeyUses,
    refusals: list[tuple[AppendRequest, Exception]],
) -> list[PlacedRequest]:
    """Place each request after the head; a request that can't be placed is refused alone.

    ``at`` is the time of the new entries.
    """
    placed = []
    next_seq = head_seq + 1
    for request in requests:
        try:
            one = _place(request, next_seq, at, uses)
        except AppendRefused as error:
            refusals.append((request, error))
            continue
        placed.append(one)
        next_seq += len(one.drafts)
    return placed


def _place(request: AppendRequest, next_seq: int, at: datetime, uses: KeyUses) -> PlacedRequest:
    if request.idempotency is not None:
        earlier = uses.earlier(request.org_id, request.idempotency)
        if earlier is not None:
            return PlacedRequest(request, earlier.all_seqs(), [], True)
    seqs: Sequence[int] = range(next_seq, next_seq + len(request.drafts))
    drafts = request.drafts
    if request.unique:
        seqs, drafts = _place_unique(request, next_seq, at, uses)
    if request.idempotency is not None:
        _add_use(request.org_id, request.idempotency, seqs, at, uses)
    return PlacedRequest(request, seqs, drafts, not drafts)


def _place_unique(
    request: AppendRequest, next_seq: int, at: datetime, uses: KeyUses
) -> tuple[Sequence[int], list[Draft]]:
    # Every key is checked before the first use is added: a mismatch must leave no use behind.
    bodies: dict[bytes, bytes] = {}
    for index, digest in request.unique.items():
        try:
            if bodies.setdefault(digest.key, digest.body) != digest.body:
                raise IdempotencyMismatch(
                    "another event of the request has its unique_key and a different body"
                )
            uses.earlier(request.org_id, digest)
        except IdempotencyMismatch as error:
            raise IdempotencyMismatch(f"event {index}: {error}", index=index) from None
    seqs: list[int] = []
    drafts: list[Draft] = []
    for index, draft in enumerate(request.drafts):
        mine = request.unique.get(index)
        earlier = None if mine is None else uses.earlier(request.org_id, mine)
        if earlier is not None:
            seqs.append(earlier.first_seq)
            continue
        seq = next_seq + len(drafts)
        if mine is not None:
            uses.add(KeyUse(request.org_id, mine.key, mine.body, seq, 1, None, at))
        seqs.append(seq)
        drafts.append(draft)
    if len(drafts) == len(request.drafts):
        return range(next_seq, next_seq + len(drafts)), drafts
    return seqs, drafts


def _add_use(
    org_id: int, digest: KeyDigest, seqs: Sequence[int], at: datetime, uses: KeyUses
) -> None:
    listed = None if isinstance(seqs, range) else list(seqs)
    uses.add(KeyUse(org_id, digest.key, digest.body, seqs[0], len(seqs), listed, at))
