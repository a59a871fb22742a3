"""Shares the event loop between callers: whoever sends many requests at once waits for its own.

Most requests need no database, and end in the turn of the loop in which they begin. A thousand that
arrive together would hold up every other request, at each of its steps, for the time of all of them.
So in each turn of the loop few requests of one caller begin at once, and further ones by caller in
turn: as many as take about :data:`SLICE_S`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from typing import Final

from ledger.pieces import RoundRobin, pieces_of
from ledger.storage.asking import STRANGERS

AT_ONCE: Final = 4
"""Requests of one caller that begin at once in each turn of the loop."""
SLICE_S: Final = 0.002
"""The processor time of one turn of the loop, roughly, while requests wait for theirs."""
MOST_A_TURN: Final = 64
"""Further requests that begin in one turn of the loop."""
MIXED_TURNS: Final = 500
"""For so many turns after a request of another caller the slices are short; else there is one caller
alone, which is served best in large slices."""

RESTS: Final = 3
"""So long, there are so many turns of the loop between two pieces of long work."""

LOOP_SHARES: Final = "loop_shares"
"""The key in a request's state of the shares of its process."""

Begun = asyncio.Future[None]


class LoopShares:
    """The requests that begin in this turn of one process's loop, and those that wait to.

    A caller is the owner of an API key, or :data:`STRANGERS`: all of them are one caller, and take
    its turns by address, as addresses are easy to have.
    """

    def __init__(self) -> None:
        self._begun: dict[Hashable, int] = {}
        """How many requests of each caller began at once in this turn of the loop."""
        self._waiting: RoundRobin[Begun | None] = RoundRobin()
        self._strangers: RoundRobin[Begun] = RoundRobin()
        self._last: Hashable = None
        self._mixed = 0
        self._turning = False
        self._turned_s = 0.0
        self._a_turn = MOST_A_TURN
        self._left = 0

    def enter(self, caller: Hashable, address: Hashable = None) -> Begun | None:
        """Return what a request must wait for before it begins, or None."""
        if not self._turning:
            self._turning, self._left = True, self._a_turn
            asyncio.get_running_loop().call_soon(self._turn)
        if caller != self._last:
            self._last, self._mixed = caller, MIXED_TURNS
            pieces_of(asyncio.get_running_loop()).rests = RESTS
        begun = self._begun.get(caller, 0)
        if begun < AT_ONCE and caller not in self._waiting:
            self._begun[caller] = begun + 1
            return None
        if self._left and not self._waiting:
            self._left -= 1
            return None
        return self._wait(caller, address)

    def _wait(self, caller: Hashable, address: Hashable) -> Begun:
        begun: Begun = asyncio.get_running_loop().create_future()
        if caller == STRANGERS:
            self._strangers.put(address, begun)
            self._waiting.put(STRANGERS, None)
        else:
            self._waiting.put(caller, begun)
        return begun

    def _turn(self) -> None:
        """Let some requests begin; called once in each turn of the loop in which some did or wait."""
        self._begun.clear()
        self._measure()
        while self._left and self._waiting:
            begun = self._waiting.take() or self._strangers.take()
            if not begun.done():  # cancelled
                begun.set_result(None)
                self._left -= 1
        self._turning = bool(self._waiting)
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)

    def _measure(self) -> None:
        """Decide how many requests begin in the next turn, by the time that the last one took."""
        if not self._mixed:
            self._a_turn = MOST_A_TURN
            pieces_of(asyncio.get_running_loop()).rests = 0
        elif self._waiting:
            now = time.thread_time()
            if now - self._turned_s > SLICE_S:
                self._a_turn = max(1, self._a_turn // 2)
            else:
                self._a_turn = min(self._a_turn + 1, MOST_A_TURN)
            self._turned_s = now
        self._mixed = max(0, self._mixed - 1)
        self._left = self._a_turn
