"""A worker process: reads segments of a trail and checks them.

Started as ``python -m ledger.core.verification.worker`` with its orders on stdin
and its answers on stdout. When stdin ends, the process that started it has gone
or has no more use for it, and it ends at once, in the middle of a segment too.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ledger.chain import TrailFault
from ledger.core.verification.rows.scan import SegmentScan
from ledger.core.verification.trees.signed_logs import SignedLogs
from ledger.core.verification.work.crew import (
    MAX_MESSAGE_BYTES,
    Advance,
    FromWorker,
    Ready,
    VerificationSetup,
    WorkerFailure,
    decode_to_worker,
    encode,
)
from ledger.core.verification.work.faults import MAX_FAULTS
from ledger.core.verification.work.segments import Segment, SegmentResult
from ledger.errors import QuireError
from ledger.storage.copy_out import SegmentReader, reader_of
from ledger.workers import answers_of_worker, frame, receive

if TYPE_CHECKING:
    from ledger.core.verification.rows.archived_rows import ArchiveAndDatabase

ADVANCE_EVERY_S: Final = 0.2


class Worker:
    """One worker's dialogue, on a descriptor to answer to."""

    def __init__(self, orders: asyncio.StreamReader, answers: int) -> None:
        self._orders = orders
        self._answers = answers
        self._segments: asyncio.Queue[Segment] = asyncio.Queue()
        self._both: ArchiveAndDatabase | None = None

    async def run(self) -> None:
        """Work until stdin ends. Returns only then, or after a failure was told."""
        body = await receive(self._orders, MAX_MESSAGE_BYTES)
        if body is None:
            return
        order = decode_to_worker(body)
        assert isinstance(order, VerificationSetup), "an order comes first"
        working = asyncio.create_task(self._work(order))
        listening = asyncio.create_task(self._listen())
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)
        if not working.cancelled():
            working.result()  # an error of our own belongs on stderr

    async def _listen(self) -> None:
        while (body := await receive(self._orders, MAX_MESSAGE_BYTES)) is not None:
            segment = decode_to_worker(body)
            assert isinstance(segment, Segment), "only segments follow the order"
            self._segments.put_nowait(segment)

    async def _work(self, order: VerificationSetup) -> None:
        try:
            keyring = order.keyring()
            async with reader_of(order.database_url, order.snapshot) as reader:
                logs = order.signed and SignedLogs(order.signed, order.org_id, reader.trees)
                self._answer(Ready())
                while True:
                    segment = await self._segments.get()
                    if segment.anchors and logs:
                        self._answer(await logs.anchors(segment))
                        continue
                    scan = SegmentScan(order.org_id, order.org, keyring, segment)
                    told_rows, damages = await self._read(reader, order, segment, scan)
                    result = scan.finish()
                    _add(result, damages)
                    self._answer(Advance(scan.rows - told_rows))
                    if segment.tree and logs:
                        rows = None if segment.beyond else scan.leaves.rows()
                        result.tree = await logs.trail_part(segment, rows)
                    elif segment.proven and logs:
                        rows = None if segment.beyond else scan.leaves.rows()
                        result.tree = await logs.range_part(segment, rows)
                    self._answer(result)
        except QuireError as error:
            self._answer(WorkerFailure(str(error)))
        finally:
            if self._both is not None:
                await self._both.close()

    async def _read(
        self, reader: SegmentReader, order: VerificationSetup, segment: Segment, scan: SegmentScan
    ) -> tuple[int, list[TrailFault]]:
        """Stream the rows through the scan; returns how many of them were told of.

        With them comes what is wrong with the archive that some of them came from.
        """
        now = asyncio.get_running_loop().time
        told_rows, told_at = 0, now()

        async def take(chunk: bytes) -> None:
            nonlocal told_rows, told_at
            scan.feed(chunk)
            if now() - told_at >= ADVANCE_EVERY_S:
                self._answer(Advance(scan.rows - told_rows))
                told_rows, told_at = scan.rows, now()

        archive = order.archive
        if archive is None or max(segment.lower, 0) >= archive.live_from:
            await reader.copy(order.org_id, segment.lower, segment.last, take)
            return told_rows, []
        if self._both is None:
            # Here, as few trails have left their database.
            from ledger.core.verification.rows.archived_rows import ArchiveAndDatabase  # noqa: PLC0415

            self._both = ArchiveAndDatabase(reader, archive, order.org_id, order.org)
        faults = await self._both.copy(segment.lower, segment.last, take)
        return told_rows, faults

    def _answer(self, message: FromWorker) -> None:
        data = memoryview(frame(encode(message)))
        while data:
            data = data[os.write(self._answers, data) :]


def _add(result: SegmentResult, faults: Sequence[TrailFault]) -> None:
    """Add what was wrong with the archive to what is wrong with the rows."""
    if faults:
        result.faults = sorted([*result.faults, *faults], key=lambda fault: fault.seq)[:MAX_FAULTS]
        result.fault_count += len(faults)
        result.kinds = sorted({*result.kinds, *(fault.kind for fault in faults)})


async def main() -> None:
    """Take orders from stdin; whatever else is printed goes to stderr."""
    answers = answers_of_worker()
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    await Worker(orders, answers).run()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed: it reads the rows at less cost."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())
