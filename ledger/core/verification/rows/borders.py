"""Checks that blocks begin where Quire begins them: the same entries in other blocks are a fault."""

from __future__ import annotations

from ledger.blocks.block import SYSTEM_ORG, stands_alone
from ledger.blocks.layout import BLOCK_BYTES, BLOCK_ENTRIES
from ledger.chain import TrailFault
from ledger.core.verification.rows.runs import Run


class BlockBorders:
    """Follows the blocks of a segment whose entries are right; call skip where others come.

    A border beside a wrong or missing entry says nothing: the entry has the fault.
    """

    def __init__(self, org: str) -> None:
        self._drops_months = org == SYSTEM_ORG
        self._before: Run | None = None

    def follow(self, run: Run) -> list[TrailFault]:
        """Return the fault of the border before this whole block, if it has one."""
        before, self._before = self._before, run
        if before is not None and not _is_border(before, run):
            reason = "a block begins here, where none was begun: the entries were stored anew"
        elif (
            self._drops_months
            and len(run.leaves) > 1
            and any(stands_alone(leaf or b"") for leaf in run.leaves)
        ):
            reason = "the entry on the drop of a month shares its block with other entries"
        else:
            return []
        return [TrailFault(run.block.first_seq, "block_border", reason)]

    def skip(self) -> None:
        """Pass entries that are not those of a whole block, or not right."""
        self._before = None


def _is_border(before: Run, run: Run) -> bool:
    """Return whether a block ends before this one, by the rules of ``ledger.blocks.block.cut``."""
    seq = run.block.first_seq
    return (
        seq % BLOCK_ENTRIES == 0
        or before.block.last_seq + 1 != seq
        or before.block.anchored != run.block.anchored
        or before.block.raw_bytes + _first_bytes(run) > BLOCK_BYTES
        or stands_alone(before.leaves[-1] or b"")
        or stands_alone(run.leaves[0] or b"")
    )


def _first_bytes(run: Run) -> int:
    pieces = (run.signatures[0], run.leaves[0], run.payloads[0])
    return sum(len(piece or b"") for piece in pieces)
