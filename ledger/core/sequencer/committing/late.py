"""Answers that name more earlier entries than are read while the heads are locked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ledger.chain import ChainHead, StoredEntry
from ledger.core.sequencer.replay import PlacedRequest
from ledger.core.sequencer.request import AnswerLost
from ledger.errors import OutcomeUnknown, StorageError
from ledger.storage.database import Database
from ledger.storage.entries.picked import receipts
from ledger.storage.entries.picked.receipts import WrittenEntry


class LateAnswer(NamedTuple):
    """A request of a committed batch; some of its earlier entries are read after the commit."""

    placed: PlacedRequest
    head: ChainHead
    entries: Sequence[StoredEntry]
    written: Mapping[int, WrittenEntry]
    new_head: ChainHead

    async def give(self, database: Database) -> None:
        """Read the other entries and answer the caller."""
        request = self.placed.request
        earlier = sorted({seq for seq in self.placed.seqs if seq <= self.head.seq})
        unread = [seq for seq in earlier if seq not in self.written]
        try:
            read = await receipts.read(database, request.org_id, unread)
        except StorageError as error:
            request.refuse(
                OutcomeUnknown(
                    f"the answer could not be read: {error}. Retry with the same idempotency key"
                )
            )
            return
        written = {**self.written, **read.entries}
        lost = [seq for seq in earlier if seq not in written]
        if lost and self.placed.drafts:  # a refusal would say that nothing was written
            request.refuse(
                OutcomeUnknown(
                    "the new events of this request were written, but the answer can't be read: "
                    f"the entry at seq {lost[0]}, which was written before, is no longer in the "
                    "trail, or can't be read. Verify the trail"
                )
            )
        elif lost:
            request.refuse(AnswerLost(lost[0]))
        else:
            request.answer(self.placed.appended(self.head, self.entries, written, self.new_head))
