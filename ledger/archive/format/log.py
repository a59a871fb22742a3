"""A log that is archived: an org's trail or the anchor log, with the keys that sign it."""

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
        """Verify a stored note with the log's own keys and return its checkpoint.

        ``note`` is None where it was too long to be read. Raises ArchiveRefused for a note that
        the log's key did not sign, or that states another size.
        """
        try:
            if note is None:
                raise FormatError("it is too long for a checkpoint")
            if self.prefix == ANCHORS:
                checkpoint = open_anchor(note, self.history).checkpoint
            else:
                checkpoint = open_org_checkpoint(note, self.prefix, self.history).checkpoint
        except FormatError as error:
            raise ArchiveRefused(
                f"the checkpoint of {self.prefix} at size {size} was not signed by this log: "
                f"{error}. Run a full verification of this trail"
            ) from error
        if checkpoint.size != size:
            raise ArchiveRefused(
                f"the checkpoint of {self.prefix} stored for size {size} states size "
                f"{checkpoint.size}. Run a full verification of this trail"
            )
        return checkpoint
