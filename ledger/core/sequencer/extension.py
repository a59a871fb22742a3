"""The entries that one lane adds to its trail in a batch, made while they are being written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from ledger.chain import ChainHead, StoredEntry, extend, next_time_us
from ledger.core.sequencer.committing.late import LateAnswer
from ledger.core.sequencer.lane import Lane, SeenHead
from ledger.core.sequencer.replay import PlacedRequest
from ledger.core.sequencer.request import Appended, AppendRequest
from ledger.keys import SigningKey
from ledger.storage.entries.heads import HeadCounts
from ledger.storage.entries.picked.receipts import WrittenEntry

SLICE_ENTRIES: Final = 256


class LaneExtension:
    """The requests of one lane, placed after its head."""

    def __init__(
        self,
        lane: Lane,
        head: ChainHead,
        thawed_us: int,
        counts: HeadCounts | None,
        placed: Sequence[PlacedRequest],
    ) -> None:
        self.lane = lane
        self.head = head
        self.thawed_us = thawed_us
        self.counts = counts
        self.new_head = head
        self.entries: list[StoredEntry] = []
        self._placed = placed

    @property
    def accepts_loss(self) -> bool:
        """True if its entry says that an operator accepted a loss."""
        return any(one.request.loss is not None for one in self._placed)

    def seen(self, mark: bytes | None) -> SeenHead:
        """The head after the new entries, whose block has this mark."""
        return SeenHead(
            self.lane.org_id, self.new_head, self.thawed_us, mark, self.accepts_loss, self.counts
        )

    @property
    def adds(self) -> bool:
        """True if there are entries to write."""
        return any(one.drafts for one in self._placed)

    def anchored_us(self, now_us: int) -> int:
        """The time of the new entries, after the head's: two commits have never the same.

        So the borders of blocks follow from the entries.
        """
        return next_time_us(now_us, self.head)

    def produce(self, now_us: int, key: SigningKey) -> Iterator[StoredEntry]:
        """Chain, hash and sign the new entries.

        Entries are made lazily, in slices: PostgreSQL reads the first rows while the next
        ones are being made.
        """
        at_us = self.anchored_us(now_us)
        drafts = (draft for one in self._placed for draft in one.drafts)
        while some := list(islice(drafts, SLICE_ENTRIES)):
            made, self.new_head = extend(
                self.lane.org_id, self.lane.org, self.new_head, some, at_us, key
            )
            self.entries += made
            yield from made

    def answers(
        self, written: Mapping[int, WrittenEntry]
    ) -> tuple[list[tuple[AppendRequest, Appended]], list[LateAnswer]]:
        """The answers to the requests, once all entries are made, and those that come later.

        ``written`` holds the earlier entries that were read.
        """
        ready: list[tuple[AppendRequest, Appended]] = []
        late: list[LateAnswer] = []
        for one in self._placed:
            if all(seq > self.head.seq or seq in written for seq in one.seqs):
                answer = one.appended(self.head, self.entries, written, self.new_head)
                ready.append((one.request, answer))
            else:
                late.append(LateAnswer(one, self.head, self.entries, written, self.new_head))
        return ready, late
