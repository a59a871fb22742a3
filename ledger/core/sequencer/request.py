"""The sequencer's requests and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.chain import ChainHead, Draft, StoredEntry
from ledger.entry import decode_leaf, from_datetime
from ledger.errors import AppendRefused
from ledger.storage.entries.picked.receipts import WrittenEntry
from ledger.storage.row_changes import RowChange
from ledger.storage.trail import AppendTransaction

ROW_OVERHEAD_BYTES: Final = 700
"""The bytes that a waiting event counts beside its payload, for the bounds of the queues."""


class StaleSeal(AppendRefused):
    """A subject of the org was erased after this request was sealed: seal it again."""

    def __init__(self, erasures: int) -> None:
        super().__init__("a subject was erased after this request was sealed; seal it again")
        self.erasures = erasures


class StaleKey(AppendRefused):
    """The API key of this request may have been revoked since it was admitted: look it up again."""

    def __init__(self) -> None:
        super().__init__("the API key of this request is looked up again; nothing was written")


class AnswerLost(AppendRefused):
    """An entry of the first answer to an idempotency key is no longer in the trail."""

    def __init__(self, seq: int) -> None:
        super().__init__(
            f"this idempotency key was answered with the entry at seq {seq}, which is no longer "
            "in the trail, or can't be read. Verify the trail"
        )


class KeyDigest(NamedTuple):
    """Keyed digests of an idempotency key and of the body it came with."""

    key: bytes
    body: bytes


class AcceptedLoss(NamedTuple):
    """An operator's acceptance that a trail lost acknowledged entries.

    ``found`` is the end of the trail as the operator was shown it; the trail goes on after
    ``after``, which is ``found`` unless a signed tree reaches further.
    """

    found: ChainHead
    after: ChainHead


class TrailMoved(AppendRefused):
    """The trail is not as the operator was shown it who accepts a loss."""

    def __init__(self, org: str) -> None:
        super().__init__(
            f'the trail of "{org}" changed since its loss was looked at; nothing was written. '
            "Run the command again"
        )


class EntryPlace(NamedTuple):
    """The place of one event in the trail: its seq, hashes and time (µs since the epoch)."""

    seq: int
    entry_hash: bytes
    previous_hash: bytes
    anchored_us: int


class Appended(NamedTuple):
    """A durable request: its entries in the order of its events, and the trail's head after it.

    ``contiguous`` is True if the entries are new and follow each other, from
    ``previous_hash`` on. Otherwise some may have been written before. ``replayed`` is True if all entries were written before.
    """

    entries: Sequence[StoredEntry | WrittenEntry]
    previous_hash: bytes
    head: ChainHead
    contiguous: bool
    replayed: bool

    def receipts(self) -> list[EntryPlace]:
        """One receipt for each event of the request."""
        return list(self.places())

    def places(self) -> Iterator[EntryPlace]:
        """Yield the receipts one after the other: there may be thousands."""
        previous, moment, time_us = self.previous_hash, None, 0
        for entry in self.entries:
            if entry.anchored_at is not moment:
                moment = entry.anchored_at
                time_us = from_datetime(moment)
            if isinstance(entry, WrittenEntry):
                previous = entry.previous_hash
            elif not self.contiguous:
                previous = bytes.fromhex(decode_leaf(entry.leaf).previous_hash or "")
            yield EntryPlace(entry.seq, entry.entry_hash, previous, time_us)
            previous = entry.entry_hash


Effect = Callable[[AppendTransaction], Awaitable[AppendRefused | None]]
"""Work inside the append transaction; an error that it returns refuses the request."""


Permit = Callable[[int], bool]
"""Returns whether a key is valid while its org has had this many revocations."""


class RowEffect:
    """The change of one row, in the transaction of its entry.

    ``refusal`` returns why the change is refused, in the transaction that refused it.
    ``created_at`` is when the row was created; None until the change is made.
    """

    __slots__ = ("change", "created_at", "refusal")

    def __init__(
        self, change: RowChange, refusal: Callable[[AppendTransaction], Awaitable[AppendRefused]]
    ) -> None:
        self.change = change
        self.refusal = refusal
        self.created_at: datetime | None = None


class AppendRequest:
    """One caller's events, waiting for their seqs.

    ``erasures`` is the org's erasure count at which the drafts were sealed (None
    for plain orgs). ``permit``, where it is set, says by the org's count of revocations whether the
    caller's key is still valid; it is asked under the lock of the head. ``idempotency`` applies to
    the request, ``unique`` to single events by their index. A request with a ``thaw``, or with an
    ``effect`` that is no RowEffect, commits alone. A ``thaw`` by an AcceptedLoss may go on before
    the newest acknowledged entry.
    """

    __slots__ = (
        "drafts",
        "effect",
        "erasures",
        "future",
        "idempotency",
        "loss",
        "org",
        "org_id",
        "permit",
        "row",
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
        effect: Effect | RowEffect | None = None,
        thaw: bool | AcceptedLoss = False,
    ) -> None:
        assert drafts, "a request holds at least one event"
        self.org_id = org_id
        self.org = org
        self.drafts = drafts
        self.erasures = erasures
        self.permit: Permit | None = None
        self.idempotency = idempotency
        self.unique = unique or {}
        self.row = effect if isinstance(effect, RowEffect) else None
        self.effect = None if isinstance(effect, RowEffect) else effect
        self.thaw = thaw is not False
        self.loss = thaw if isinstance(thaw, AcceptedLoss) else None
        self.size_bytes = sum(len(draft.payload) for draft in drafts) + (
            ROW_OVERHEAD_BYTES * len(drafts)
        )
        self.future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()

    @property
    def alone(self) -> bool:
        """True if no other request of its lane may be in its batch."""
        return self.effect is not None or self.thaw

    def answer(self, appended: Appended) -> None:
        """Return durable entries to the caller, if it still waits."""
        if not self.future.done():
            self.future.set_result(appended)

    def refuse(self, error: Exception) -> None:
        """Raise the error in the caller, if it still waits: nothing is acknowledged."""
        if not self.future.done():
            self.future.set_exception(error)
            # Read here, so that a caller that was cancelled causes no asyncio warning.
            self.future.exception()
