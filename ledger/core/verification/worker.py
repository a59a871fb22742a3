"""A worker process: reads segments of a trail and checks them.

It is started as ``python -m ledger.core.verification.worker``, reads messages from stdin
and writes answers to stdout. When stdin ends, because its parent ended or needs it no
more, it ends at once, even in the middle of a segment.
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
    FoundSealing,
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
    """One worker: reads messages from ``messages`` and writes answers to the descriptor ``answers``."""

    def __init__(self, messages: asyncio.StreamReader, answers: int) -> None:
        self._messages = messages
        self._answers = answers
        self._segments: asyncio.Queue[Segment] = asyncio.Queue()
        self._archive_and_database: ArchiveAndDatabase | None = None

    async def run(self) -> None:
        """Check segments until stdin ends, or until a failure was reported."""
        body = await receive(self._messages, MAX_MESSAGE_BYTES)
        if body is None:
            return
        setup = decode_to_worker(body)
        assert isinstance(setup, VerificationSetup), "the setup comes first"
        working = asyncio.create_task(self._work(setup))
        listening = asyncio.create_task(self._listen())
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)
        if not working.cancelled():
            working.result()  # an internal error is raised, which prints it on stderr

    async def _listen(self) -> None:
        while (body := await receive(self._messages, MAX_MESSAGE_BYTES)) is not None:
            segment = decode_to_worker(body)
            assert isinstance(segment, Segment), "only segments follow the setup"
            self._segments.put_nowait(segment)

    async def _work(self, setup: VerificationSetup) -> None:
        try:
            keyring = setup.keyring()
            async with reader_of(setup.database_url, setup.snapshot) as reader:
                logs = setup.signed and SignedLogs(setup.signed, setup.org_id, reader.trees)
                self._answer(Ready())
                while True:
                    segment = await self._segments.get()
                    if segment.anchors and logs:
                        self._answer(await logs.anchors(segment))
                        continue
                    scan = SegmentScan(setup.org, keyring, segment)
                    reported, damages = await self._read(reader, setup, segment, scan)
                    result = scan.finish()
                    self._answer_sealing(scan)
                    _add(result, damages)
                    self._answer(Advance(scan.rows - reported))
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
            if self._archive_and_database is not None:
                await self._archive_and_database.close()

    async def _read(
        self, reader: SegmentReader, setup: VerificationSetup, segment: Segment, scan: SegmentScan
    ) -> tuple[int, list[TrailFault]]:
        """Stream the blocks through the scan.

        Returns the number of entries reported as progress, and the faults of archived objects.
        """
        now = asyncio.get_running_loop().time
        reported, reported_at = 0, now()

        async def feed(chunk: bytes) -> None:
            nonlocal reported, reported_at
            scan.feed(chunk)
            self._answer_sealing(scan)
            if now() - reported_at >= ADVANCE_EVERY_S:
                self._answer(Advance(scan.rows - reported))
                reported, reported_at = scan.rows, now()

        archive = setup.archive
        if archive is None or max(segment.lower, 0) >= archive.live_from:
            await reader.copy(setup.org_id, segment.lower, segment.last, feed)
            return reported, []
        if self._archive_and_database is None:
            # Imported here, as few trails have archived entries.
            from ledger.core.verification.rows.archived_rows import ArchiveAndDatabase  # noqa: PLC0415

            self._archive_and_database = ArchiveAndDatabase(
                reader, archive, setup.org_id, setup.org
            )
        faults = await self._archive_and_database.copy(segment.lower, segment.last, scan.add, feed)
        return reported, faults

    def _answer_sealing(self, scan: SegmentScan) -> None:
        for entries in scan.sealing():
            self._answer(FoundSealing(entries))

    def _answer(self, message: FromWorker) -> None:
        data = memoryview(frame(encode(message)))
        while data:
            data = data[os.write(self._answers, data) :]


def _add(result: SegmentResult, faults: Sequence[TrailFault]) -> None:
    """Add the archive's faults to a segment's result, within MAX_FAULTS."""
    if faults:
        result.faults = sorted([*result.faults, *faults], key=lambda fault: fault.seq)[:MAX_FAULTS]
        result.fault_count += len(faults)
        result.kinds = sorted({*result.kinds, *(fault.kind for fault in faults)})


async def main() -> None:
    """Read messages from stdin and answer on stdout; other output goes to stderr."""
    answers = answers_of_worker()
    messages = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(messages), sys.stdin
    )
    await Worker(messages, answers).run()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop if it is installed, which reads rows at less cost; else asyncio's own loop."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())
