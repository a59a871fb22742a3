"""Sending one coalesced batch so that a bad event fails its own caller and no other."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from ledger.client import errors
from ledger.client.errors import LedgerError, ProblemError
from ledger.client.models import Receipt

Send: TypeAlias = Callable[[Sequence[bytes]], Awaitable[list[Receipt]]]

MAX_SINGLED_OUT = 16
"""So many bad events are taken out of a batch one by one; then it is halved each time."""

# What one event can do to the batch it is in: wrong by itself, too large, or a
# unique_key used before with another body. Every other error concerns them all.
REFUSALS = (
    errors.InvalidRequestError,
    errors.ConflictError,
    errors.PayloadTooLargeError,
    errors.IdempotencyMismatchError,
)


@dataclass(slots=True, eq=False)
class PendingEvent:
    """One caller's event, and where the caller waits for its receipt."""

    event: bytes
    receipt: asyncio.Future[Receipt]

    def resolve(self, receipt: Receipt) -> None:
        if not self.receipt.done():  # else the caller has gone away
            self.receipt.set_result(receipt)

    def fail(self, error: Exception) -> None:
        if not self.receipt.done():
            self.receipt.set_exception(_own(error))


def _own(error: Exception) -> Exception:
    """Return ``error`` for one caller of a batch.

    A copy, since one instance raised in many tasks gathers all their tracebacks;
    and without the batch's key and the place in it, which mean nothing to a caller.
    """
    if not isinstance(error, LedgerError):
        return error
    own = copy.copy(error)
    own.idempotency_key = None
    own.__cause__ = error.__cause__
    if isinstance(error, ProblemError):
        extras = {name: v for name, v in error.problem.extras.items() if name != "index"}
        own = type(error)(msgspec.structs.replace(error.problem, extras=extras))
    return own


class BatchDelivery:
    """A batch on its way. Every one of its callers is answered before ``run`` ends."""

    def __init__(self, batch: list[PendingEvent], send: Send) -> None:
        self._groups = deque([batch])
        self._send = send
        self._singled_out = 0

    async def run(self) -> None:
        try:
            while self._groups:
                await self._send_next()
        except Exception as error:  # noqa: BLE001 - it is raised again in every caller
            self._fail(error)
        except BaseException:
            self._fail(errors.ClientClosedError("closed while the event was on its way"))
            raise

    async def _send_next(self) -> None:
        # The group stays in place until it is answered, for _fail to find it.
        group = [waiting for waiting in self._groups[0] if not waiting.receipt.done()]
        parts: list[list[PendingEvent]] = []
        try:
            receipts = await self._send([waiting.event for waiting in group]) if group else []
        except REFUSALS as error:
            parts = self._without_refused(group, error)
        else:
            for waiting, receipt in zip(group, receipts, strict=True):
                waiting.resolve(receipt)
        self._groups.popleft()
        self._groups.extendleft(reversed([part for part in parts if part]))

    def _without_refused(
        self, group: list[PendingEvent], error: ProblemError
    ) -> list[list[PendingEvent]]:
        """Fail who is to blame and return what is to be sent again, in order.

        The refusal was atomic: nothing of the group was written.
        """
        index = 0 if len(group) == 1 else error.index
        if index is None or not 0 <= index < len(group):
            return _halves(group)
        group[index].fail(error)
        rest = group[:index] + group[index + 1 :]
        self._singled_out += 1
        return [rest] if self._singled_out <= MAX_SINGLED_OUT else _halves(rest)

    def _fail(self, error: Exception) -> None:
        for group in self._groups:
            for waiting in group:
                waiting.fail(error)
        self._groups.clear()


def _halves(group: list[PendingEvent]) -> list[list[PendingEvent]]:
    middle = len(group) // 2
    return [group[:middle], group[middle:]]
