"""Places to build bundles: a reader that is slow gives its place back until it has caught up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ledger.core.shares import OrgShares
from ledger.errors import QueueFull
from ledger.turns import Share, Turn, Turns

RETRY_AFTER_S: Final = 5
MAX_OPEN: Final = 64
"""Bundles that are being sent, of all orgs; each keeps one batch of entries in memory."""
MAX_OPEN_OF_ORG: Final = 8
HOLD_S: Final = 60.0
"""How long a bundle that goes on waits for a place."""
_BUILD: Final = "build"


class BundlePlace:
    """One bundle's place, held or given back for a while."""

    def __init__(self, turns: Turns, turn: Turn) -> None:
        self._turns = turns
        self._turn = turn
        self._held = True

    def let_go(self) -> None:
        """Give the place back: the reader is slow, and others may build meanwhile."""
        if self._held:
            self._held = False
            self._turns.give_back(self._turn)

    async def hold(self) -> None:
        """Hold the place again, in turn with other orgs. Raises TimeoutError."""
        if not self._held:
            await self._turns.take(self._turn, HOLD_S)
            self._held = True


class BundlePlaces:
    """The places of one process: ``at_once`` in all, half of them at most for one org."""

    def __init__(self, at_once: int) -> None:
        share = Share(at_once, max(1, at_once // 2))
        self._turns = Turns(at_once, {_BUILD: share}, full=lambda _: full(everyone=False))
        self._open = OrgShares(total=MAX_OPEN, of_org=MAX_OPEN_OF_ORG, full=_full)

    @property
    def held(self) -> int:
        """The number of places that are held."""
        return self._turns.held

    @property
    def open(self) -> int:
        """The number of bundles that are being made or sent."""
        return self._open.held

    @contextmanager
    def place(self, org_id: int) -> Iterator[BundlePlace]:
        """Hold a place during the block, if one is free now. Raises QueueFull."""
        turn = Turn(org_id, _BUILD, refusable=False)
        with self._open.holding(org_id):
            if not self._turns.take_now(turn):
                raise full(everyone=self._turns.held >= self._turns.size)
            place = BundlePlace(self._turns, turn)
            try:
                yield place
            finally:
                place.let_go()


def _full(everyone: bool) -> QueueFull:
    return full(everyone=everyone)


def full(*, everyone: bool) -> QueueFull:
    """Return the refusal of a bundle: of an org, or (``everyone``) of all."""
    return QueueFull(
        "this server is building as many bundles as it can; retry in a moment",
        retry_after=RETRY_AFTER_S,
        everyone=everyone,
    )
