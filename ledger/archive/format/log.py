"""A log that is archived, and what its own keys signed."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.archive.format.layout import ANCHORS
from ledger.checkpoint import TreeHead
from ledger.errors import ArchiveRefused, FormatError
from ledger.log_keys import LogKeyHistory, open_anchor, open_org_checkpoint


@dataclass(frozen=True)
class ArchivedLog:
    """An org's trail, or the anchor log (``prefix`` is ``_anchors``)."""

    org_id: int
    prefix: str
    history: LogKeyHistory

    def opened(self, note: bytes | None, size: int) -> TreeHead:
        """A checkpoint that our key signed. Raises ArchiveRefused for any other."""
        try:
            if note is None:
                raise FormatError("it is too long to be one")
            if self.prefix == ANCHORS:
                checkpoint = open_anchor(note, self.history).checkpoint
            else:
                checkpoint = open_org_checkpoint(note, self.prefix, self.history).checkpoint
        except FormatError as error:
            raise ArchiveRefused(
                f"the checkpoint of {self.prefix} at size {size} is not ours: {error}. Run a full "
                "verification of this trail"
            ) from error
        if checkpoint.size != size:
            raise ArchiveRefused(
                f"the checkpoint of {self.prefix} stored for size {size} is one of size "
                f"{checkpoint.size}. Run a full verification of this trail"
            )
        return checkpoint
