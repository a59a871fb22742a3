"""Sends one batch so that a refused event fails its own caller and no other."""

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
"""Refused events that are removed from a batch one by one; then the batch is halved each time."""

# The errors that a single event can cause: it is invalid or too large, or its unique_key was
# used before with another body. Every other error concerns the whole batch.
REFUSALS = (
    errors.InvalidRequestError,
    errors.ConflictError,
    errors.PayloadTooLargeError,
    errors.IdempotencyMismatchError,
)


@dataclass(slots=True, eq=False)
class PendingEvent:
    """One caller's event, and the future on which the caller waits."""

    event: bytes
    receipt: asyncio.Future[Receipt]

    def resolve(self, receipt: Receipt) -> None:
        if not self.receipt.done():  # else the call was cancelled
            self.receipt.set_result(receipt)

    def fail(self, error: Exception) -> None:
        if not self.receipt.done():
            self.receipt.set_exception(_own(error))


def _own(error: Exception) -> Exception:
    """Return a copy of ``error`` for one caller of a batch.

    One instance raised in many tasks would collect all their tracebacks. The copy has neither
    the batch's idempotency key nor the index in the batch, which mean nothing to a caller.
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
    """The delivery of one batch. All its callers are answered before ``run`` ends."""

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
            self._fail(errors.ClientClosedError("closed while the event was being sent"))
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
        """Fail the refused event and return the groups to be sent again, in order.

        A refusal is atomic: nothing of the group was written.
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
