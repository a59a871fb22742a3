"""Records the freezes by the signer in the register, so that no head row alone can undo them.

The signer has no signing key for entries: it freezes an org in its head row, which the server's role
may change. Why it stopped a tree stands in the table ``trees``, which only the signer may change.
"""

from __future__ import annotations

from typing import Final

from ledger.core.checkpointing.doubt import NOT_FROZEN, UNKNOWN_KEY
from ledger.core.register import Register
from ledger.core.sequencer import Sequencer
from ledger.storage import accepted_doubts
from ledger.storage.accepted_doubts import StoppedTree
from ledger.storage.database import Database

STOPPED: Final = "checkpoints stopped"
"""The first words of the reason of a freeze by the signer."""


class SignerFreezes:
    """Compares the trees that the signer stopped with the register."""

    def __init__(self, database: Database, register: Register, sequencer: Sequencer) -> None:
        self._database = database
        self._register = register
        self._sequencer = sequencer

    async def record(self) -> None:
        """Record the freezes that nobody accepted. Raises StorageError, AppendRefused."""
        stopped = [
            tree for tree in await accepted_doubts.all_stopped(self._database) if _freezes(tree)
        ]
        if not stopped:
            return
        # An operator's thaw accepts the doubt in its own transaction: who follows it, finds that too.
        await self._register.catch_up()
        left = [tree for tree in stopped if self._register.freeze_of(tree.org_id) is None]
        accepted = await accepted_doubts.accepted(
            self._database,
            [(tree.org_id, tree.size, tree.kind) for tree in left],
            self._register.row_key,
        )
        for tree in left:
            if tree.org_id not in accepted:
                reason = f"{STOPPED}: {tree.reason}"
                await self._sequencer.freezes.freeze(tree.org_id, tree.slug, reason)


def _freezes(tree: StoppedTree) -> bool:
    """Return whether the signer froze the org of a stopped tree."""
    return tree.kind != UNKNOWN_KEY and not tree.kind.endswith(NOT_FROZEN)
