"""Who asks the database, and for what kind of work; the pool's places are shared by it.

The caller of a request is known where it is admitted, and the database is asked many calls further
down: a context variable of the request's task has it in between.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Final

from ledger.errors import QueueFull
from ledger.turns import Share, Turn, Turns

STRANGERS: Final = "strangers"
"""The owner of look-ups of API keys that this process does not know."""
SMALLEST_SHARED: Final = 2
"""A smaller pool is not divided."""


class Work(StrEnum):
    """Kinds of work, the most urgent one first."""

    VITAL = "vital"
    """API keys, orgs and the keys of persons: without them nobody is served."""
    READ = "read"
    SEARCH = "search"
    """Reads as much as its limits allow to find little."""
    KEYLESS = "keyless"
    """What callers without a valid API key ask; the owner is the caller's address."""


_OWN: Final = Turn(None, Work.READ)
"""The server asks by itself."""
_turn: ContextVar[Turn] = ContextVar("turn", default=_OWN)


def current_turn() -> Turn:
    """Return who asks now, and for what."""
    return _turn.get()


def ask_for(owner: Hashable, *, writes: bool) -> None:
    """Ask for an owner from here to the end of this task.

    A request that ``writes`` is not refused by the pool: its change may have been made already.
    """
    _turn.set(Turn(owner, Work.READ, not writes))


def ask_without_key(address_group: str, *, writes: bool = False) -> None:
    """Ask for a caller without a known API key from here to the end of this task."""
    _turn.set(Turn(address_group, Work.KEYLESS, not writes))


def vital_work() -> Work:
    """Return the kind of a look-up that is vital, unless a caller without a key asks for it."""
    return Work.KEYLESS if _turn.get().kind is Work.KEYLESS else Work.VITAL


@contextmanager
def asking(work: Work, owner: Hashable = ..., *, refusable: bool | None = None) -> Iterator[None]:
    """Ask for this kind of work in the block; for another owner, if one is given."""
    turn = _turn.get()
    token = _turn.set(
        Turn(
            turn.owner if owner is ... else owner,
            work,
            turn.refusable if refusable is None else refusable,
        )
    )
    try:
        yield
    finally:
        _turn.reset(token)


def turns_of_pool(size: int) -> Turns:
    """Return the turns of a pool of this many connections.

    Of ten connections searches take four at most, one for each org; callers without a key take two,
    one for each address; vital work takes five at most, and two are left for it alone; at least one
    is left for other reads.
    """
    if size < SMALLEST_SHARED:
        return Turns(size, {work: Share(size, size) for work in Work}, full=_full)
    vital = size // 2
    read = size - max(1, size // 5)
    search = max(1, min(read // 2, size - vital - 1))
    shares: dict[Hashable, Share] = {
        Work.VITAL: Share(vital, max(1, vital - 1)),
        Work.READ: Share(read, max(1, read // 2)),
        Work.SEARCH: Share(search, max(1, search // 4), within=Work.READ),
        Work.KEYLESS: Share(max(1, size // 5), 1, within=Work.READ),
    }
    return Turns(size, shares, full=_full)


def _full(kind: Hashable) -> QueueFull:
    return QueueFull(
        f"too many requests of this org wait for the database ({kind}); send fewer at a time, and "
        "retry shortly"
    )


def waited_too_long(turn: Turn, waited_s: float) -> QueueFull:
    """Return the refusal of a request whose turn did not come in time."""
    return QueueFull(
        f"this request waited {waited_s:.0f} s for earlier ones of this org ({turn.kind}); send fewer "
        "at a time, and retry shortly",
        retry_after=2,
    )
