"""Verifies a whole archive from the target alone; a database is optional.

The verification goes from the top down: the checkpoint's signature, then the tiles down to
level 1; level 0 is cut into blocks for several processes. All other objects are compared with
these tiles.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, NamedTuple

from ledger.archive.format.layout import (
    ANCHORS,
    CHECKPOINT,
    LOG_KEYS,
    ORG,
    CheckpointAt,
    CosignatureAt,
    Place,
    Span,
    TokenAt,
    place_of,
)
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.targets import Target, TargetSettings
from ledger.archive.verification.anchoring import (
    TrustedAttestors,
    check_anchoring,
    check_attestations,
)
from ledger.archive.verification.blocks import BlockReport, TileBlock
from ledger.archive.verification.comparing import DatabaseComparison
from ledger.archive.verification.crew import Crew, crew
from ledger.archive.verification.extras import ExtraObjects, gaps, is_extra, reaches
from ledger.archive.verification.findings import ALWAYS_ASKED, ArchiveFindings, ArchiveVerdict
from ledger.archive.verification.worker import ArchiveWorkerSetup, Work
from ledger.checkpoint import TreeHead
from ledger.errors import (
    ArchiveMismatch,
    ArchiveObjectMissing,
    ForeignHistory,
    FormatError,
    HistoryBeforePins,
    KeyHistoryError,
    TileError,
)
from ledger.keys import SigningKeyring
from ledger.log_keys import KeyPins, LogKeyHistory
from ledger.merkle import HASH_BYTES
from ledger.storage.archive_accounts import ArchiveAccount
from ledger.storage.database import Database
from ledger.storage.trees import ANCHOR_LOG
from ledger.tiles import (
    MAX_TILE_BYTES,
    TILE_WIDTH,
    LogReport,
    Tile,
    edge_from_tiles,
    tile_in,
    tiles_for_edge,
    verification,
)

BLOCK_TILES: Final = 64
EXTRAS_AT_ONCE: Final = 256
WAITING_MAX: Final = 16
"""Pieces of work that are submitted before one is awaited."""
SPANS_MAX: Final = 1_000_000
OWN_KEYS: Final = (
    "the keys are the archive's own: they show that one log made all of this, not whose log it is. "
    "Get keys.json (quire keys log show --pins) from the operator of {origin} in another way, and "
    "verify with --trust keys.json"
)


class ArchiveVerificationOptions(NamedTuple):
    """The options of a verification.

    ``settings`` are those of the target. ``pins`` pin the log's keys; without them the archive's
    own keys are used and the verdict is incomplete. ``processes``: 0 works in this process, None
    starts one per core. ``against_database``: the entries' signatures and the live database are
    required checks. ``advance`` is called with the number of newly checked entries.
    """

    settings: TargetSettings | None = None
    pins: KeyPins | None = None
    attestors: TrustedAttestors | None = None
    processes: int | None = None
    against_database: bool = False
    advance: Callable[[int], None] = lambda _: None


class LiveTrail(NamedTuple):
    """The database to compare the archive with, and the org's id in it.

    ``row_key`` authenticates the accounts of archived data, on a machine that has the master key.
    """

    database: Database
    org_id: int
    row_key: bytes | None = None

    def accounts(self, target: str) -> ArchiveAccount:
        """Return the accounts of a target."""
        return ArchiveAccount(self.database, target, self.row_key)


class ArchiveVerification:
    """The verification of one log's archive; :meth:`run` it once."""

    def __init__(
        self,
        target: Target,
        org: str,
        options: ArchiveVerificationOptions,
        *,
        keyring: SigningKeyring | None = None,
        live: LiveTrail | None = None,
    ) -> None:
        self._target = target
        self._reader = ArchiveReader(target, org)
        self._options = options
        self._live = live
        keys = () if keyring is None else tuple((key.key_id, key.secret) for key in keyring.keys())
        self._setup = ArchiveWorkerSetup(target.url, options.settings or TargetSettings(), keys)
        self._processes = (os.cpu_count() or 1) if options.processes is None else options.processes
        self._findings = ArchiveFindings()
        self._work: set[asyncio.Task[BlockReport]] = set()

    async def run(self) -> ArchiveVerdict:
        """Verify everything. Raises ArchiveError where the target can't be read."""
        # The checkpoint is opened while the processes start.
        async with crew(self._setup, self._processes) as team:
            return await self._verified(team)

    async def _verified(self, team: Crew) -> ArchiveVerdict:
        found = self._findings
        if await self._is_unwritten():
            await self._report_unwritten()
            return found.verdict(self._reader.org, 0, self._asked())
        history = await self._history()
        checkpoint = None if history is None else await self._checkpoint(history)
        if history is None or checkpoint is None:
            return found.verdict(self._reader.org, 0, self._asked())
        found.checked |= {"checkpoint", "tree", "history"}
        if self._reader.org != ANCHORS:
            found.checked |= {"payloads"} | ({"signatures"} if self._setup.keys else set())
            await self._about()
        try:
            async for work in self._pieces(checkpoint, history):
                await self._submit(team, work)
            while self._work:
                await self._collect()
        finally:
            for task in self._work:
                task.cancel()
            await asyncio.gather(*self._work, return_exceptions=True)
        if self._reader.org == ANCHORS:
            attestors = self._options.attestors or TrustedAttestors()
            await check_attestations(self._reader, checkpoint.size, attestors, found)
        else:
            await check_anchoring(self._target, self._reader, checkpoint.size, history, found)
            if self._live is not None:
                accounts = self._live.accounts(self._target.url)
                database, org_id, _ = self._live
                await DatabaseComparison(
                    self._reader, accounts, database, org_id, checkpoint.size, found
                ).run()
        await self._check_pointer(checkpoint.size, history)
        return found.verdict(self._reader.org, checkpoint.size, self._asked())

    async def _is_unwritten(self) -> bool:
        """Return whether no archiving of this log has finished: the checkpoint is written last."""
        try:
            return await self._reader.checkpoint() is None
        except ArchiveMismatch:  # longer than a note may be
            return False

    async def _report_unwritten(self) -> None:
        """Add a fault where the database knows of an earlier archive, and else a warning."""
        org = self._reader.org
        if self._live is not None:
            done = await self._live.accounts(self._target.url).upto(self._live.org_id)
            if done is not None and done.size:
                reason = f"{done.size} entries were archived here, but the checkpoint is missing"
                self._findings.fault(CHECKPOINT, "checkpoint", reason)
                return
        self._findings.warnings.append(
            f"no checkpoint of {org} is archived: archiving has not finished yet, or its objects "
            "were removed. Archive it (quire archive run) and verify again"
        )

    async def _check_pointer(self, size: int, history: LogKeyHistory) -> None:
        """Warn of objects beyond the checkpoint, which were not checked.

        The checkpoint was set back, or the objects are being written, or a crash left them:
        ``checkpoint`` is written last.
        """
        newest = self._findings.newest
        if newest <= size:
            return
        checkpoint = await self._checkpoint(history)
        if checkpoint is None or checkpoint.size < newest:
            self._findings.behind = True
            self._findings.warnings.append(
                f"{self._reader.org}/{CHECKPOINT} has size {size}, but the archive has checkpoints "
                f"up to size {newest}: everything after {size} was not checked. The checkpoint was "
                "set back, or archiving has not finished: archive once more (quire archive run)"
            )

    def _asked(self) -> set[str]:
        """Return the checks that this verification requires."""
        attestors = self._options.attestors or TrustedAttestors()
        if self._reader.org == ANCHORS:
            named = {
                "external_time": attestors.authorities is not None,
                "witnesses": attestors.policy is not None,
            }
        else:
            named = {
                "payloads": True,
                "anchors": True,
                "signatures": self._options.against_database or bool(self._setup.keys),
                "database": self._options.against_database or self._live is not None,
            }
        return {*ALWAYS_ASKED, *(check for check, is_asked in named.items() if is_asked)}

    async def _history(self) -> LogKeyHistory | None:
        try:
            history = await self._reader.key_history()
            self._check_pins(history)
        except (KeyHistoryError, ArchiveMismatch, ArchiveObjectMissing) as error:
            check = "keys" if isinstance(error, ForeignHistory) else "checkpoint"
            self._findings.fault(LOG_KEYS, check, str(error))
            return None
        return history

    def _check_pins(self, history: LogKeyHistory) -> None:
        """Compare the key history with the pins. Raises ForeignHistory where they differ."""
        if self._options.pins is None:
            self._findings.warnings.append(OWN_KEYS.format(origin=history.origin))
            return
        try:
            history.check_pins(self._options.pins)
        except HistoryBeforePins as error:
            self._findings.warnings.append(str(error))
        else:
            self._findings.checked.add("keys")

    async def _checkpoint(self, history: LogKeyHistory) -> TreeHead | None:
        try:
            note = await self._reader.checkpoint()
            if note is None:
                raise ArchiveMismatch("it was deleted during the verification")
            return self._reader.opened(note, history)
        except (FormatError, ArchiveMismatch) as error:
            self._findings.fault(CHECKPOINT, "checkpoint", str(error))
            return None

    async def _about(self) -> None:
        try:
            about = await self._reader.about()
            if about.org != self._reader.org:
                raise ArchiveMismatch(f"it describes the org {about.org!r}")
        except (ArchiveMismatch, ArchiveObjectMissing) as error:
            self._findings.fault(ORG, "history", str(error))

    async def _pieces(self, checkpoint: TreeHead, history: LogKeyHistory) -> AsyncIterator[Work]:
        async for work in self._blocks(checkpoint):
            yield work
        keys: list[str] = []
        spans: list[Span] = []
        found, size = self._findings, checkpoint.size
        async for listed in self._reader.objects():
            try:
                place = place_of(listed.key)
            except ArchiveMismatch as error:
                found.fault(listed.key, "history", str(error))
                continue
            found.newest = max(found.newest, _signed_size(place))
            if not reaches(place, size):
                continue  # written for a checkpoint that is not archived yet
            if isinstance(place, Span) and place.kind == "history" and len(spans) < SPANS_MAX:
                spans.append(place)
            if is_extra(place, size):
                keys.append(listed.key)
            if len(keys) == EXTRAS_AT_ONCE:
                yield ExtraObjects(self._reader.org, size, keys, history.document())
                keys = []
        if keys:
            yield ExtraObjects(self._reader.org, size, keys, history.document())
        for first, last in gaps(spans, size):
            reason = f"no checkpoint of a size from {first} to {last} is archived"
            self._findings.fault("history/", "history", reason)

    async def _blocks(self, checkpoint: TreeHead) -> AsyncIterator[Work]:
        """Yield the blocks of level 0, with the roots from the proved tiles of level 1."""
        full, done = checkpoint.size >> 8, 0
        async for tile, hashes in self._rows(checkpoint):
            for work in [*self._unproved(done, tile.index * TILE_WIDTH), *self._row(tile, hashes)]:
                yield work
            done = tile.index * TILE_WIDTH + tile.width
        for work in self._unproved(done, full):
            yield work
        if checkpoint.size % TILE_WIDTH:
            yield await self._last(checkpoint)

    async def _rows(self, checkpoint: TreeHead) -> AsyncIterator[tuple[Tile, bytes]]:
        """Yield the tiles of level 1 that the root covers; add the faults above level 0."""
        proved: list[tuple[Tile, bytes]] = []

        def keep(tile: Tile, hashes: bytes) -> None:
            if tile.level == 1:
                proved.append((tile, hashes))

        steps = verification(checkpoint.size, checkpoint.root, on_tile=keep, lowest=1)
        report: LogReport | None = None
        files: dict[str, bytes | None] | None = None
        while report is None:
            try:
                paths = next(steps) if files is None else steps.send(files)
                files = {path: await self._find(path) for path in paths}
            except StopIteration as end:
                report = end.value
            for one in proved:
                yield one
            proved.clear()
        for fault in report.faults:
            self._findings.fault(fault.path, "tree", fault.reason)

    def _row(self, tile: Tile, hashes: bytes) -> Iterator[Work]:
        """Yield the blocks of level 0 below a tile of level 1."""
        for at in range(0, tile.width, BLOCK_TILES):
            count = min(BLOCK_TILES, tile.width - at)
            roots = hashes[at * HASH_BYTES : (at + count) * HASH_BYTES]
            first = tile.index * TILE_WIDTH + at
            yield TileBlock(self._reader.org, first, count, proved=roots, payloads=self._payloads)

    def _unproved(self, first: int, end: int) -> Iterator[Work]:
        """Yield the blocks below a damaged tile: their objects are checked but not counted."""
        for at in range(first, end, BLOCK_TILES):
            count = min(BLOCK_TILES, end - at)
            yield TileBlock(self._reader.org, at, count, payloads=self._payloads)

    async def _last(self, checkpoint: TreeHead) -> Work:
        """Return the block of the partial tile; the edge of the tree proves its hashes."""
        size = checkpoint.size
        edge = {tile: await self._find(tile.path()) for tile in tiles_for_edge(size)}
        tiles = {tile: data for tile, data in edge.items() if data is not None}
        try:
            proved = edge_from_tiles(size, tiles).root() == checkpoint.root
        except TileError:
            proved = False
        last = tile_in(size, 0, size // TILE_WIDTH)
        return TileBlock(
            self._reader.org,
            last.index,
            1,
            hashes=tiles[last] if proved else None,
            width=last.width,
            payloads=self._payloads,
        )

    @property
    def _payloads(self) -> bool:
        return self._reader.org != ANCHORS

    async def _find(self, path: str) -> bytes | None:
        try:
            return await self._reader.find(path, MAX_TILE_BYTES)
        except ArchiveMismatch:  # longer than a tile
            return None

    async def _submit(self, team: Crew, work: Work) -> None:
        self._work.add(asyncio.create_task(team.check(work)))
        if len(self._work) >= WAITING_MAX:
            await self._collect()

    async def _collect(self) -> None:
        """Wait for submitted work and add its results to the findings."""
        done, self._work = await asyncio.wait(self._work, return_when=asyncio.FIRST_COMPLETED)
        found = self._findings
        for task in done:
            checked = task.result()
            found.add(checked.faults, checked.fault_count)
            found.entries += checked.entries
            found.objects += checked.objects
            found.lacking += checked.lacking
            found.bytes += checked.bytes
            self._options.advance(checked.entries)


def _signed_size(place: Place) -> int:
    """Return the size of the largest checkpoint that an object belongs to; 0 for other objects."""
    match place:
        case CheckpointAt(size) | Span("history", _, size):
            return size
        case TokenAt(size) | CosignatureAt(size):
            return size
    return 0


async def verify_archive(
    target: Target,
    org: str,
    options: ArchiveVerificationOptions,
    *,
    keyring: SigningKeyring | None = None,
    live: LiveTrail | None = None,
) -> tuple[ArchiveVerdict, ArchiveVerdict]:
    """Verify the archive of a trail, and that of the anchor log, which dates it.

    ``keyring`` has the entries' signing keys. Raises ArchiveError where the target can't be
    read, StorageError where the database can't.
    """
    trail = await ArchiveVerification(target, org, options, keyring=keyring, live=live).run()
    anchors_live = None if live is None else live._replace(org_id=ANCHOR_LOG)
    anchors = ArchiveVerification(target, ANCHORS, options, live=anchors_live)
    return trail, await anchors.run()
