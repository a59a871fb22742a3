"""The entries that one lane adds to its trail in a batch, made while they are being written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from ledger.chain import ChainHead, StoredEntry, extend
from ledger.core.sequencer.lane import Lane
from ledger.core.sequencer.replay import PlacedRequest
from ledger.core.sequencer.request import Appended, AppendRequest
from ledger.keys import SigningKey

SLICE_ENTRIES: Final = 256


class LaneExtension:
    """The requests of one lane, placed after its head."""

    def __init__(
        self, lane: Lane, head: ChainHead, thawed_us: int, placed: Sequence[PlacedRequest]
    ) -> None:
        self.lane = lane
        self.head = head
        self.thawed_us = thawed_us
        self.new_head = head
        self.entries: list[StoredEntry] = []
        self._placed = placed

    @property
    def adds(self) -> bool:
        """True if there are entries to write."""
        return any(one.drafts for one in self._placed)

    def anchored_us(self, now_us: int) -> int:
        """The time of the new entries: never before the head's."""
        return max(now_us, self.head.anchored_us)

    def produce(self, now_us: int, key: SigningKey) -> Iterator[StoredEntry]:
        """Chain, hash and sign the new entries.

        Entries are made lazily, in slices: PostgreSQL reads the first rows while the next
        ones are being made.
        """
        drafts = (draft for one in self._placed for draft in one.drafts)
        while some := list(islice(drafts, SLICE_ENTRIES)):
            made, self.new_head = extend(
                self.lane.org_id, self.lane.org, self.new_head, some, now_us, key
            )
            self.entries += made
            yield from made

    def answers(self, stored: Mapping[int, StoredEntry]) -> list[tuple[AppendRequest, Appended]]:
        """The answer to each request, once all entries are made."""
        return [
            (one.request, one.appended(self.head, self.entries, stored, self.new_head))
            for one in self._placed
        ]
