"""The worker processes of a verification, and the messages exchanged with them.

The keyring and the database URL travel in these messages only: not in
arguments, the environment or files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from ledger.archive.targets import TargetSettings
from ledger.checkpoint import SignedTreeHead
from ledger.core.verification.work.faults import VerificationFailed
from ledger.core.verification.work.sealing_entries import SealingEntry
from ledger.core.verification.work.segments import Segment, SegmentResult
from ledger.core.verification.work.trust import LogTrust, TrailTrust
from ledger.keys import SigningKey, SigningKeyring
from ledger.workers import WorkerKind, WorkerProcess, worker_processes

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
START_TIMEOUT_S: Final = 60.0
WORKERS: Final = WorkerKind(
    "ledger.core.verification.worker",
    "a verification worker",
    VerificationFailed,
    MAX_MESSAGE_BYTES,
)


class ArchiveAt(msgspec.Struct, frozen=True):
    """The URL of the archive, and the first seq whose entry is in the database."""

    url: str
    settings: TargetSettings = TargetSettings()
    live_from: int = 0


class LogExtent(msgspec.Struct, frozen=True):
    """The extent of a log: its largest stored head with a valid signature, or the empty head.

    ``trust`` has remembered heads, which may be larger.
    """

    head: SignedTreeHead
    trust: LogTrust

    @property
    def signed(self) -> int:
        """The size that its tiles must cover; 0 if no head is signed."""
        return self.head.size

    @property
    def needed(self) -> int:
        """The size of the largest known head, stored or remembered."""
        return max(self.head.size, *(head.size for head in self.trust.remembered), 0)


class SignedExtent(msgspec.Struct, frozen=True):
    """The extents of the signed logs, known before the segments are checked."""

    trust: TrailTrust
    trail: LogExtent
    anchors: LogExtent


class VerificationSetup(msgspec.Struct, frozen=True, tag="order"):
    """A worker's first message: the place of the trail, and the keys and heads to verify it with."""

    database_url: str
    snapshot: str
    org_id: int
    org: str
    keys: list[tuple[str, bytes]]
    active: str
    signed: SignedExtent | None = None
    archive: ArchiveAt | None = None
    """The archive with the rows that were dropped from the database, if any were."""

    def __repr__(self) -> str:
        return f"VerificationSetup(org_id={self.org_id})"  # the other fields hold secrets

    def keyring(self) -> SigningKeyring:
        """The keyring to verify entries with."""
        keys = [SigningKey(key_id, secret) for key_id, secret in self.keys]
        return SigningKeyring(keys, [self.active])


class Advance(msgspec.Struct, frozen=True, tag="advance"):
    """Progress: the number of rows read of the current segment since the last message."""

    rows: int


class FoundSealing(msgspec.Struct, frozen=True, tag="sealing"):
    """Entries of the current segment that seal security events."""

    entries: list[SealingEntry]


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker is connected and uses the snapshot."""


class WorkerFailure(msgspec.Struct, frozen=True, tag="failure"):
    """The worker can't continue; ``message`` says why."""

    message: str


ToWorker = VerificationSetup | Segment
FromWorker = Ready | Advance | FoundSealing | SegmentResult | WorkerFailure
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
encode = msgspec.msgpack.Encoder().encode


class CrewMember:
    """One worker process. Every method raises VerificationFailed if the worker is lost."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process

    async def set_up(self, setup: VerificationSetup) -> None:
        """Send the setup; returns when the worker can read the trail."""
        await self._process.send(encode(setup))
        answer = await self._answer()
        if not isinstance(answer, Ready):
            raise VerificationFailed("a verification worker sent an unexpected answer")

    async def check(
        self,
        segment: Segment,
        advance: Callable[[int], None],
        sealing: Callable[[list[SealingEntry]], None] = lambda _: None,
    ) -> SegmentResult:
        """Check one segment; ``advance`` is called with the number of rows newly read.

        ``sealing`` is called with entries of the segment that seal security events.
        """
        await self._process.send(encode(segment))
        while not isinstance(answer := await self._answer(), SegmentResult):
            if isinstance(answer, Advance):
                advance(answer.rows)
            elif isinstance(answer, FoundSealing):
                sealing(answer.entries)
        return answer

    async def _answer(self) -> FromWorker:
        body = await self._process.receive()
        try:
            answer: FromWorker = decode_from_worker(body)
        except msgspec.MsgspecError as error:
            raise VerificationFailed(
                f"the answer of a verification worker can't be read: {error}"
            ) from None
        if isinstance(answer, WorkerFailure):
            raise VerificationFailed(f"the trail could not be read: {answer.message}")
        return answer


@asynccontextmanager
async def crew_of(size: int, setup: VerificationSetup) -> AsyncIterator[list[CrewMember]]:
    """Start ``size`` workers that can read the trail; all are ended when the block ends."""
    async with worker_processes(WORKERS, size) as processes:
        crew = [CrewMember(process) for process in processes]
        await _set_up(crew, setup)
        yield crew


async def _set_up(crew: Sequence[CrewMember], setup: VerificationSetup) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await asyncio.gather(*(member.set_up(setup) for member in crew))
    except TimeoutError:
        raise VerificationFailed(
            f"the verification workers did not start within {START_TIMEOUT_S:g} s"
        ) from None
