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
        self._size = 0
        """Raw bytes since the last border that is right: a block that begins between counts too."""

    def follow(self, run: Run) -> list[TrailFault]:
        """Return the fault of the border before this whole block, if it has one."""
        before, self._before = self._before, run
        reason = _fault_of_record(run) if self._drops_months else None
        if before is None or _is_border(before, run, self._size):
            self._size = run.block.raw_bytes
        else:
            self._size = _size_after(self._size, run)
            reason = "a block begins here, where none was begun: the entries were stored anew"
        return [TrailFault(run.block.first_seq, "block_border", reason)] if reason else []

    def skip(self) -> None:
        """Pass entries that are not those of a whole block, or not right."""
        self._before = None


def _fault_of_record(run: Run) -> str | None:
    """Return what is wrong with a block in which a month's drop is recorded, or None."""
    if not any(stands_alone(leaf or b"") for leaf in run.leaves):
        return None
    if len(run.leaves) > 1:
        return "the entry on the drop of a month shares its block with other entries"
    if len(run.block.leaves) + len(run.block.payloads) < run.block.raw_bytes:
        return "the entry on the drop of a month is compressed, so that no drop can be proved by it"
    return None


def _is_border(before: Run, run: Run, size: int) -> bool:
    """Return whether a block ends before this one, by the rules of ``ledger.blocks.block.cut``.

    ``size``: the raw bytes since the last border.
    """
    seq = run.block.first_seq
    return (
        seq % BLOCK_ENTRIES == 0
        or before.block.last_seq + 1 != seq
        or before.block.anchored != run.block.anchored
        or size + _bytes(run, 0) > BLOCK_BYTES
        or stands_alone(before.leaves[-1] or b"")
        or stands_alone(run.leaves[0] or b"")
    )


def _size_after(size: int, run: Run) -> int:
    """Return the raw bytes since the border that Quire would have set last, at the end of a run."""
    for position in range(len(run.leaves)):
        added = _bytes(run, position)
        size = added if size + added > BLOCK_BYTES else size + added
    return size


def _bytes(run: Run, position: int) -> int:
    pieces = (run.signatures[position], run.leaves[position], run.payloads[position])
    return sum(len(piece or b"") for piece in pieces)
