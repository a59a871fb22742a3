"""The worker processes of a verification, and the messages between it and them.

The keyring and the database URL travel in these messages and nowhere else: not in
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
    """Where the archive is, and the seq at which the entries in the database begin."""

    url: str
    settings: TargetSettings = TargetSettings()
    live_from: int = 0


class LogExtent(msgspec.Struct, frozen=True):
    """How far a log reaches: its largest head that is stored and rightly signed, if any.

    ``trust`` knows of others, which may be larger.
    """

    head: SignedTreeHead
    trust: LogTrust

    @property
    def signed(self) -> int:
        """The size that its tiles must cover; 0 where nothing is signed."""
        return self.head.size

    @property
    def needed(self) -> int:
        """The size of the largest head that is known of, stored or remembered."""
        return max(self.head.size, *(head.size for head in self.trust.remembered), 0)


class SignedExtent(msgspec.Struct, frozen=True):
    """What of the signed logs is known before the work begins."""

    trust: TrailTrust
    trail: LogExtent
    anchors: LogExtent


class VerificationSetup(msgspec.Struct, frozen=True, tag="order"):
    """What a worker needs once: where the trail is and what verifies it."""

    database_url: str
    snapshot: str
    org_id: int
    org: str
    keys: list[tuple[str, bytes]]
    active: str
    signed: SignedExtent | None = None
    archive: ArchiveAt | None = None
    """Where the rows are that left the database, if any did."""

    def __repr__(self) -> str:
        return f"Order(org_id={self.org_id})"  # the rest holds secrets

    def keyring(self) -> SigningKeyring:
        """The keyring of the order."""
        keys = [SigningKey(key_id, secret) for key_id, secret in self.keys]
        return SigningKeyring(keys, [self.active])


class Advance(msgspec.Struct, frozen=True, tag="advance"):
    """So many rows more were read of the segment under way."""

    rows: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker is connected under the snapshot."""


class WorkerFailure(msgspec.Struct, frozen=True, tag="failure"):
    """The worker can't go on, and why."""

    message: str


ToWorker = VerificationSetup | Segment
FromWorker = Ready | Advance | SegmentResult | WorkerFailure
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
encode = msgspec.msgpack.Encoder().encode


class CrewMember:
    """One worker process. Every method raises VerificationFailed where it is lost."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process

    async def enlist(self, order: VerificationSetup) -> None:
        """Hand over the order; returns when the worker has the trail before it."""
        await self._process.send(encode(order))
        answer = await self._answer()
        if not isinstance(answer, Ready):
            raise VerificationFailed("a verification worker answered out of turn")

    async def check(self, segment: Segment, advance: Callable[[int], None]) -> SegmentResult:
        """Check one segment; ``advance`` is told of rows as they are read."""
        await self._process.send(encode(segment))
        while not isinstance(answer := await self._answer(), SegmentResult):
            if isinstance(answer, Advance):
                advance(answer.rows)
        return answer

    async def _answer(self) -> FromWorker:
        body = await self._process.receive()
        try:
            answer: FromWorker = decode_from_worker(body)
        except msgspec.MsgspecError as error:
            raise VerificationFailed(f"a verification worker is not understood: {error}") from None
        if isinstance(answer, WorkerFailure):
            raise VerificationFailed(f"the trail could not be read: {answer.message}")
        return answer


@asynccontextmanager
async def crew_of(size: int, order: VerificationSetup) -> AsyncIterator[list[CrewMember]]:
    """Processes that have the trail before them; none is left when the block ends."""
    async with worker_processes(WORKERS, size) as processes:
        crew = [CrewMember(process) for process in processes]
        await _enlist(crew, order)
        yield crew


async def _enlist(crew: Sequence[CrewMember], order: VerificationSetup) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await asyncio.gather(*(member.enlist(order) for member in crew))
    except TimeoutError:
        raise VerificationFailed("the verification workers did not start in time") from None
