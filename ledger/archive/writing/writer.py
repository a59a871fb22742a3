"""Writing archives: what was signed since the last time, object by object, then its account.

In this order: packs, bundles and tiles, history and nonces; the checkpoint's note; the
pointers, ``checkpoint`` last; the row in the database. What a crash leaves is a part of that,
which the next run writes again, byte for byte, over what is there already.

Nonces wait until the archive of the anchor log has their leaves: a place beyond it is free
again after a restore, and would be another leaf's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from ledger.archive.format.layout import (
    ANCHORS,
    CHECKPOINT,
    LOG_KEYS,
    ORG,
    CheckpointAt,
    CosignatureAt,
    Span,
    TokenAt,
)
from ledger.archive.format.log import ArchivedLog
from ledger.archive.format.records import (
    ROWS_MAX,
    AnchoredAt,
    ArchivedCheckpoint,
    ArchivedOrg,
    encode_rows,
)
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.targets import Target
from ledger.archive.writing.growth import TreeGrowth, growth_of
from ledger.archive.writing.object_writer import ObjectLock, ObjectWriter
from ledger.archive.writing.sources import AnchorSource, LeafSource, Object, TrailSource
from ledger.entry import from_datetime
from ledger.errors import ArchiveObjectMissing, ArchiveRefused, FormatError, KeyHistoryError
from ledger.keys import SigningKeyring
from ledger.log_keys import LogKeyHistory
from ledger.note import parse_signatures
from ledger.storage import archive_accounts, log_keys
from ledger.storage.archive_accounts import ArchivedUpTo, AttestedRow
from ledger.storage.database import Database
from ledger.storage.orgs import OrgRecord
from ledger.storage.trees import ANCHOR_LOG

ACCOUNTS_MAX: Final = 1_000_000
"""Accounts of one run: each covers a checkpoint at least."""
ATTESTATIONS_AT_ONCE: Final = 500


class WrittenArchive(NamedTuple):
    """What a run wrote: up to this size, so many objects and bytes; ``done`` when all is."""

    size: int
    objects: int
    bytes: int
    done: bool = True


class ArchiveWriter:
    """Archives the logs of one database in one target, one log at a time or several at once.

    Methods raise ArchiveError, of which ArchiveRefused says that the trail is not right, and
    StorageError. Nothing counts as archived then but what was accounted for before.
    """

    def __init__(
        self,
        target: Target,
        database: Database,
        keyring: Callable[[bool], SigningKeyring],
        policy: ObjectLock | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._target = target
        self._database = database
        self._keyring = keyring
        self._policy = policy or ObjectLock()
        self._clock = clock
        self._pointed: dict[str, bytes] = {}

    async def archive(self, org: OrgRecord, accounts: int = ACCOUNTS_MAX) -> WrittenArchive:
        """Archive an org's trail up to its newest checkpoint, or as far as so many accounts go."""
        reader = ArchiveReader(self._target, org.slug)
        source = TrailSource(self._database, org.id, reader, self._keyring)
        about = ArchivedOrg(
            created_us=from_datetime(org.created_at),
            log_public=org.log_public,
            name=org.name,
            org=org.slug,
            org_id=org.id,
            privacy=org.privacy,
        )
        return await self._archive(org.id, reader, source, Object(ORG, about.encode()), accounts)

    async def archive_anchors(self) -> WrittenArchive:
        """Archive the log of all checkpoints, and what others attested of it since."""
        reader = ArchiveReader.of_anchors(self._target)
        written = await self._archive(ANCHOR_LOG, reader, AnchorSource(self._database))
        attested = await self._attestations(written.size)
        return WrittenArchive(
            written.size, written.objects + attested.objects, written.bytes + attested.bytes
        )

    async def _archive(
        self,
        org_id: int,
        reader: ArchiveReader,
        source: LeafSource,
        about: Object | None = None,
        accounts: int = ACCOUNTS_MAX,
    ) -> WrittenArchive:
        statements = await log_keys.statements(self._database)
        if not statements:
            return WrittenArchive(0, 0, 0)  # nothing was ever signed
        log = ArchivedLog(org_id, reader.org, LogKeyHistory.of(statements))
        total = WrittenArchive(0, 0, 0)
        for _ in range(accounts):
            wrote = await self._account(log, reader, source, about)
            total = WrittenArchive(
                wrote.size,
                total.objects + wrote.objects,
                total.bytes + wrote.bytes,
                done=not wrote.objects,
            )
            if total.done:
                break
        return total

    async def _account(
        self, log: ArchivedLog, reader: ArchiveReader, source: LeafSource, about: Object | None
    ) -> WrittenArchive:
        """Archive up to one checkpoint, and account for it."""
        url = self._target.url
        before = await archive_accounts.archived(self._database, url, log.org_id) or _NOTHING
        growth = await growth_of(self._database, log, before.size, before.root)
        size = growth.size if growth else before.size
        end = max(await self._leaves_end(log, size), before.leaves)
        if growth is None and end == before.leaves:
            return WrittenArchive(size, 0, 0)
        await self._require_earlier(log, before.size)
        async with ObjectWriter(self._target, log.prefix, self._policy, self._clock()) as puts:
            if growth is not None:
                await self._write(puts, log, growth, source)
            async for one in self._nonces(log, size, (before.leaves, end)):
                await puts.add(one)
            if growth is not None:
                await self._point(puts, log, growth, reader, about)
        root = growth.root if growth else before.root
        much = (puts.objects, puts.bytes)
        await archive_accounts.add_archived(
            self._database, url, log.org_id, (size, end, root), much
        )
        return WrittenArchive(size, *much)

    async def _require_earlier(self, log: ArchivedLog, size: int) -> None:
        """Raise ArchiveObjectMissing where what was archived so far is not there any more.

        What is added to a folder or bucket that was lost would look like a whole archive.
        """
        key = f"{log.prefix}/{CheckpointAt(size).key()}"
        if size and await self._target.head(key) is None:
            raise ArchiveObjectMissing(
                f"the archive in {self._target.url} has no {key}, which was written there: it was "
                "lost, emptied, or is not mounted, and nothing is added. Restore it from your "
                "backup, or set QUIRE_ARCHIVE_URL to a new place: all that is in the database is "
                "archived there again"
            )

    async def _write(
        self, puts: ObjectWriter, log: ArchivedLog, growth: TreeGrowth, source: LeafSource
    ) -> None:
        for tile, hashes in growth.bundles():
            async for one in source.objects(growth, tile, hashes):
                await puts.add(one)
        for tile, data in growth.tiles.items():
            await puts.add(Object(tile.path(), data))
        async for one in self._history(log, growth):
            await puts.add(one)
        await puts.settled()
        await puts.add(Object(CheckpointAt(growth.size).key(), growth.note))

    async def _history(self, log: ArchivedLog, growth: TreeGrowth) -> AsyncIterator[Object]:
        """Every checkpoint since the last archived one."""
        after = growth.start
        while after < growth.size:
            above = after or -1  # the first span holds the checkpoint of size 0 too
            rows = await archive_accounts.checkpoints(
                self._database, log.org_id, above, growth.size, ROWS_MAX
            )
            for row in rows:
                log.opened(row.note, row.size)
            last = rows[-1].size if len(rows) == ROWS_MAX else growth.size
            signed = [
                ArchivedCheckpoint(row.note or b"", from_datetime(row.signed_at), row.size)
                for row in rows
            ]
            yield Object(Span("history", after, last).key(), encode_rows(signed))
            after = last

    async def _nonces(
        self, log: ArchivedLog, size: int, places: tuple[int, int]
    ) -> AsyncIterator[Object]:
        """Where the anchor log commits to checkpoints up to this size, and under which nonces."""
        after, end = places
        while after < end:
            # Checkpoints go into the anchor log smallest first.
            _, least = await archive_accounts.leaves_end(self._database, log.org_id, size, after)
            found = await archive_accounts.leaves_of(
                self._database, log.org_id, (least, size), after, ROWS_MAX
            )
            rows = [
                AnchoredAt(idx, _present(nonce, idx), size)
                for idx, size, nonce in found
                if idx < end
            ]
            last = rows[-1].idx + 1 if len(found) == ROWS_MAX and rows else end
            yield Object(Span("nonces", after, last).key(), encode_rows(rows))
            after = last

    async def _leaves_end(self, log: ArchivedLog, size: int) -> int:
        """The place after this org's newest leaf in the anchor log, as far as that is archived."""
        if log.org_id == ANCHOR_LOG:
            return 0
        anchors = await archive_accounts.archived(self._database, self._target.url, ANCHOR_LOG)
        below = 0 if anchors is None else anchors.size
        end, _ = await archive_accounts.leaves_end(self._database, log.org_id, size, below)
        return end

    async def _point(
        self,
        puts: ObjectWriter,
        log: ArchivedLog,
        growth: TreeGrowth,
        reader: ArchiveReader,
        about: Object | None,
    ) -> None:
        """Bring the pointers up to date; neither ``checkpoint`` nor the key history goes back."""
        await puts.settled()
        for one in [about, Object(LOG_KEYS, log.history.document())]:
            if one is not None and self._pointed.get(reader.key(one.key)) != one.data:
                if one.key == LOG_KEYS:
                    await _check_extends(reader, log.history)
                await puts.point(one)
                self._pointed[reader.key(one.key)] = one.data
        note = await reader.checkpoint()
        if note is None or _size(reader, note, log.history) < growth.size:
            await puts.point(Object(CHECKPOINT, growth.note))

    async def _attestations(self, size: int) -> WrittenArchive:
        """Archive tokens and cosignatures of anchors up to this size."""
        wrote = WrittenArchive(size, 0, 0)
        for _ in range(ACCOUNTS_MAX):
            found = await archive_accounts.new_attestations(
                self._database, self._target.url, size, ATTESTATIONS_AT_ONCE
            )
            async with ObjectWriter(self._target, ANCHORS, self._policy, self._clock()) as puts:
                for one in found:
                    await puts.add(_attestation(one))
            for one in found:
                await archive_accounts.add_attestation(self._database, self._target.url, one)
            wrote = WrittenArchive(size, wrote.objects + puts.objects, wrote.bytes + puts.bytes)
            if not found:
                break
        return wrote


async def _check_extends(reader: ArchiveReader, history: LogKeyHistory) -> None:
    """The keys that the archive knows must be the first of these: the tables could bring others."""
    try:
        history.check_extends(await reader.key_history())
    except ArchiveObjectMissing:
        return
    except KeyHistoryError as error:
        raise ArchiveRefused(
            f"{reader.key(LOG_KEYS)} and the database disagree about the log's keys: {error}"
        ) from error


def _size(reader: ArchiveReader, note: bytes, history: LogKeyHistory) -> int:
    """The size that a note says; -1 for one that is none of ours, to be replaced."""
    try:
        return reader.opened(note, history).size
    except FormatError:
        return -1


def _present(nonce: bytes | None, idx: int) -> bytes:
    if nonce is None:
        raise ArchiveRefused(
            f"the nonce of leaf {idx} of the anchor log is not what was stored. Verify the "
            "database against your backups"
        )
    return nonce


def _attestation(one: AttestedRow) -> Object:
    if one.data is None:
        raise ArchiveRefused(f"what attests the anchor of size {one.size} is too large to be that")
    added_us = from_datetime(one.added_at)
    if not one.witness:
        return Object(TokenAt(one.size, added_us).key(), one.data)
    try:
        (signature,) = parse_signatures(one.data)
    except (FormatError, ValueError) as error:
        raise ArchiveRefused(
            f"a cosignature of the anchor of size {one.size} is none: {error}"
        ) from error
    return Object(CosignatureAt(one.size, added_us, signature.key_id.hex()).key(), one.data)


_NOTHING: Final = ArchivedUpTo(0, 0, b"", datetime.min.replace(tzinfo=UTC))
