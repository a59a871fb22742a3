"""What a caller hands to the sequencer, and what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from ledger.chain import ChainHead, Draft, StoredEntry
from ledger.entry import decode_leaf, from_datetime
from ledger.errors import AppendRefused
from ledger.storage.trail import AppendTransaction

ROW_OVERHEAD_BYTES: Final = 700
"""What a waiting event weighs beside its payload, for the bounds of the queues."""


class StaleSeal(AppendRefused):
    """A subject of the org was erased after this request was sealed: seal it again."""

    def __init__(self, erasures: int) -> None:
        super().__init__("a subject was erased meanwhile; the request is sealed again")
        self.erasures = erasures


class AnswerLost(AppendRefused):
    """The entries that an idempotency key was first answered with are not in the trail."""

    def __init__(self, seq: int) -> None:
        super().__init__(
            f"this idempotency key was answered with the entry at seq {seq}, which is not in "
            "the trail any more. Verify the trail"
        )


class KeyDigest(NamedTuple):
    """Keyed digests of an idempotency key and of the body it came with."""

    key: bytes
    body: bytes


class EntryPlace(NamedTuple):
    """Where one event stands: its seq, hashes and time (µs since the epoch)."""

    seq: int
    entry_hash: bytes
    previous_hash: bytes
    anchored_us: int


class Appended(NamedTuple):
    """A durable request: its entries in the order of its events, and the trail's head after it.

    ``contiguous`` is True where the entries are new and follow each other, from
    ``previous_hash`` on. ``replayed`` is True where all of it was written before.
    """

    entries: Sequence[StoredEntry]
    previous_hash: bytes
    head: ChainHead
    contiguous: bool
    replayed: bool

    def receipts(self) -> list[EntryPlace]:
        """One receipt for each event of the request."""
        receipts = []
        previous = self.previous_hash
        for entry in self.entries:
            if not self.contiguous:
                previous = bytes.fromhex(decode_leaf(entry.leaf).previous_hash or "")
            receipts.append(
                EntryPlace(entry.seq, entry.entry_hash, previous, from_datetime(entry.anchored_at))
            )
            previous = entry.entry_hash
        return receipts


Effect = Callable[[AppendTransaction], Awaitable[AppendRefused | None]]
"""Work inside the append transaction; an error that it returns refuses the request."""


class AppendRequest:
    """One caller's events, waiting for their place.

    ``erasures`` is the org's erasure count the drafts were sealed under (None
    for plain orgs). ``idempotency`` covers the request, ``unique`` single events
    by their index. A request with an ``effect`` or a ``thaw`` commits alone.
    """

    __slots__ = (
        "drafts",
        "effect",
        "erasures",
        "future",
        "idempotency",
        "org",
        "org_id",
        "size_bytes",
        "thaw",
        "unique",
    )

    def __init__(
        self,
        org_id: int,
        org: str,
        drafts: list[Draft],
        *,
        erasures: int | None = None,
        idempotency: KeyDigest | None = None,
        unique: dict[int, KeyDigest] | None = None,
        effect: Effect | None = None,
        thaw: bool = False,
    ) -> None:
        assert drafts, "a request holds at least one event"
        self.org_id = org_id
        self.org = org
        self.drafts = drafts
        self.erasures = erasures
        self.idempotency = idempotency
        self.unique = unique or {}
        self.effect = effect
        self.thaw = thaw
        self.size_bytes = sum(len(draft.payload) for draft in drafts) + (
            ROW_OVERHEAD_BYTES * len(drafts)
        )
        self.future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()

    @property
    def alone(self) -> bool:
        """Whether this request takes its lane's turn for itself."""
        return self.effect is not None or self.thaw

    def answer(self, appended: Appended) -> None:
        """Tell the caller, if it still waits, that its entries are durable."""
        if not self.future.done():
            self.future.set_result(appended)

    def refuse(self, error: Exception) -> None:
        """Tell the caller, if it still waits, why nothing was acknowledged."""
        if not self.future.done():
            self.future.set_exception(error)
            # A caller that went away must not leave a warning behind.
            self.future.exception()
