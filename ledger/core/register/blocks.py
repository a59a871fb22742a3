"""The blocks of addresses that the trail `system` states, by the digest of the address.

They decide by themselves: whoever changes or removes the row of a block neither lifts nor makes one.
"""

from __future__ import annotations

from typing import Final

from ledger.core.register.changes import RecordedBlock

KEPT_US: Final = 60 * 86_400 * 1_000_000
"""A block that began so long before the newest one is forgotten: it ended, and nothing asks for it."""


class RecordedBlocks:
    """The newest block of each address. A digest is 32 hexadecimal digits."""

    def __init__(self) -> None:
        self._of: dict[str, RecordedBlock] = {}
        self.last_end_us = 0
        """No block lasts beyond this time, in µs since the Unix epoch."""

    def __len__(self) -> int:
        return len(self._of)

    def of(self, digest: str) -> RecordedBlock | None:
        """Return the newest block of an address, ended and lifted ones too; None without any."""
        return self._of.get(digest)

    def live(self, now_us: int) -> dict[str, RecordedBlock]:
        """Return the blocks that are in force at a time, by digest."""
        return {digest: block for digest, block in self._of.items() if block.is_live(now_us)}

    def items(self) -> list[tuple[str, RecordedBlock]]:
        """Return all blocks, in the order of their last changes."""
        return list(self._of.items())

    def put(self, digest: str, block: RecordedBlock) -> list[str]:
        """Note the newest block of an address; return the digests whose blocks are to be dropped."""
        self._of.pop(digest, None)
        self._of[digest] = block
        self.last_end_us = max(self.last_end_us, block.until_us)
        old = []
        for known, earlier in self._of.items():  # the last changed at the end
            if earlier.since_us > block.since_us - KEPT_US:
                break
            old.append(known)
        return old

    def drop(self, digest: str) -> None:
        """Forget the block of an address."""
        self._of.pop(digest, None)
