"""Writes archives: the newly signed part of a log, object by object, then its account.

In this order: packs, bundles, tiles and history; the checkpoint's note and the nonces; the
pointers, ``checkpoint`` last; the account, a row in the database. A crash leaves some of these,
in this order; the next run stores the same bytes under the same keys and goes on.

A nonce waits until the archived anchor log has its leaf: a restore makes the indexes beyond the
archived log free again, for other leaves.
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
from ledger.storage import archive_accounts
from ledger.storage.archive_accounts import ArchiveAccount, ArchivedUpTo
from ledger.storage.archived_attestations import AttestedRow
from ledger.storage.database import Database
from ledger.storage.log_keys import PublishedKeys
from ledger.storage.orgs import OrgRecord
from ledger.storage.trees import ANCHOR_LOG

ACCOUNTS_MAX: Final = 1_000_000
"""The most accounts of one run; each covers at least one checkpoint."""
ATTESTATIONS_AT_ONCE: Final = 500


class WrittenArchive(NamedTuple):
    """The result of a run: the archived size, the objects and bytes that it stored.

    ``done``: everything that is signed is archived.
    """

    size: int
    objects: int
    bytes: int
    done: bool = True


class ArchiveWriter:
    """Archives the logs of one database in one target, one log at a time or several at once.

    Methods raise ArchiveError and StorageError; ArchiveRefused means that the trail itself is
    not valid. After an error the accounts of earlier runs still hold, and no others.
    """

    def __init__(
        self,
        target: Target,
        database: Database,
        keyring: Callable[[bool], SigningKeyring],
        accounts: ArchiveAccount,
        policy: ObjectLock | None = None,
        clock: Callable[[], float] = time.time,
        keys: PublishedKeys | None = None,
    ) -> None:
        self._target = target
        self._accounts = accounts
        self._database = database
        self._keyring = keyring
        self._policy = policy or ObjectLock()
        self._clock = clock
        self._keys = keys or PublishedKeys(database)
        self._pointers: dict[str, bytes] = {}

    async def archive(self, org: OrgRecord, accounts: int = ACCOUNTS_MAX) -> WrittenArchive:
        """Archive an org's trail up to its newest checkpoint, by at most ``accounts`` accounts."""
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
        """Archive the anchor log, and the new timestamps and cosignatures of its anchors."""
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
        history = await self._keys.history()
        if history is None:
            return WrittenArchive(0, 0, 0)  # nothing was ever signed
        log = ArchivedLog(org_id, reader.org, history)
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
        before = await self._accounts.upto(log.org_id) or _NOTHING
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
                await self._put_pointers(puts, log, growth, reader, about)
        root = growth.root if growth else before.root
        volume = (puts.objects, puts.bytes)
        # A crash here leaves an archive that is ahead of its account: the next run stores the
        # same objects again, up to the same or a later checkpoint, and accounts for them.
        await self._accounts.add(log.org_id, (size, end, root), volume)
        return WrittenArchive(size, *volume)

    async def _require_earlier(self, log: ArchivedLog, size: int) -> None:
        """Raise ArchiveObjectMissing where the checkpoint archived last is no longer there.

        Objects added to a folder or bucket that was lost would look like a whole archive.
        """
        key = f"{log.prefix}/{CheckpointAt(size).key()}"
        if size and await self._target.head(key) is None:
            raise ArchiveObjectMissing(
                f"the archive in {self._target.url} has no {key}, which was written there: the "
                "archive was lost, emptied, or is not mounted. Nothing was added to it. Restore it "
                "from your backup, or set QUIRE_ARCHIVE_URL to a new place: everything in the "
                "database is then archived there again"
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
        # A crash up to here leaves objects beyond `checkpoint`: verification warns of them at
        # most, restore ignores them. The next run stores the same bytes again; if its checkpoint
        # is larger, objects of partial width stay beside the wider ones, and both are valid.
        await puts.drain()
        # A crash here leaves a complete tree without its note: the next run writes the note.
        await puts.add(Object(CheckpointAt(growth.size).key(), growth.note))

    async def _history(self, log: ArchivedLog, growth: TreeGrowth) -> AsyncIterator[Object]:
        """Yield the spans of all checkpoints since the last archived one."""
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
        """Yield the spans of anchor log leaves that commit to checkpoints up to ``size``.

        ``places`` are the indexes in the anchor log from which, and up to which, to archive.
        """
        after, end = places
        while after < end:
            # Checkpoints go into the anchor log smallest first.
            _, least = await archive_accounts.leaves_end(self._database, log.org_id, size, after)
            found = await archive_accounts.leaves_of(
                self._database, log.org_id, (least, size), after, ROWS_MAX
            )
            rows = [
                AnchoredAt(idx, _required(nonce, idx), size)
                for idx, size, nonce in found
                if idx < end
            ]
            last = rows[-1].idx + 1 if len(found) == ROWS_MAX and rows else end
            yield Object(Span("nonces", after, last).key(), encode_rows(rows))
            after = last

    async def _leaves_end(self, log: ArchivedLog, size: int) -> int:
        """Return the index after this org's newest leaf in the archived part of the anchor log."""
        if log.org_id == ANCHOR_LOG:
            return 0
        anchors = await self._accounts.upto(ANCHOR_LOG)
        below = 0 if anchors is None else anchors.size
        end, _ = await archive_accounts.leaves_end(self._database, log.org_id, size, below)
        return end

    async def _put_pointers(
        self,
        puts: ObjectWriter,
        log: ArchivedLog,
        growth: TreeGrowth,
        reader: ArchiveReader,
        about: Object | None,
    ) -> None:
        """Update the pointers; neither ``checkpoint`` nor the key history goes back."""
        await puts.drain()
        # A crash here leaves everything but the pointers: readers see the checkpoint before.
        for one in [about, Object(LOG_KEYS, log.history.document())]:
            if one is not None and self._pointers.get(reader.key(one.key)) != one.data:
                if one.key == LOG_KEYS:
                    await _check_extends(reader, log.history)
                await puts.put_pointer(one)
                self._pointers[reader.key(one.key)] = one.data
        # A crash here leaves a newer `org.json` and `log-keys.json` with the checkpoint before;
        # the key history only extends, so that it still opens that checkpoint.
        note = await reader.checkpoint()
        if note is None or _size(reader, note, log.history) < growth.size:
            await puts.put_pointer(Object(CHECKPOINT, growth.note))

    async def _attestations(self, size: int) -> WrittenArchive:
        """Archive tokens and cosignatures of anchors up to this size."""
        wrote, attested = WrittenArchive(size, 0, 0), self._accounts.attested
        for _ in range(ACCOUNTS_MAX):
            found = await attested.new(size, ATTESTATIONS_AT_ONCE)
            async with ObjectWriter(self._target, ANCHORS, self._policy, self._clock()) as puts:
                for one in found:
                    await puts.add(_attestation(one))
            # A crash here leaves stored attestations that are not accounted for: the next run
            # stores the same bytes under the same keys.
            for one in found:
                await attested.add(one)
            wrote = WrittenArchive(size, wrote.objects + puts.objects, wrote.bytes + puts.bytes)
            if not found:
                break
        return wrote


async def _check_extends(reader: ArchiveReader, history: LogKeyHistory) -> None:
    """Raise ArchiveRefused unless the history extends the archived one.

    A tampered table could hold other keys.
    """
    try:
        history.check_extends(await reader.key_history())
    except ArchiveObjectMissing:
        return
    except KeyHistoryError as error:
        raise ArchiveRefused(
            f"{reader.key(LOG_KEYS)} and the database disagree about the log's keys: {error}. "
            "Nothing more counts as archived until you find out which is right"
        ) from error


def _size(reader: ArchiveReader, note: bytes, history: LogKeyHistory) -> int:
    """Return the size that a note states; -1 for a note not signed by this log, to be replaced."""
    try:
        return reader.opened(note, history).size
    except FormatError:
        return -1


def _required(nonce: bytes | None, idx: int) -> bytes:
    if nonce is None:
        raise ArchiveRefused(
            f"the nonce of leaf {idx} of the anchor log does not have 32 bytes. Verify the "
            "database against your backups"
        )
    return nonce


def _attestation(one: AttestedRow) -> Object:
    if one.data is None:
        raise ArchiveRefused(
            f"a timestamp or cosignature of the anchor of size {one.size} is too long. Verify the "
            "database against your backups"
        )
    added_us = from_datetime(one.added_at)
    if not one.witness:
        return Object(TokenAt(one.size, added_us).key(), one.data)
    try:
        (signature,) = parse_signatures(one.data)
    except (FormatError, ValueError) as error:
        raise ArchiveRefused(
            f"a cosignature of the anchor of size {one.size} is not a signature line: {error}. "
            "Verify the database against your backups"
        ) from error
    return Object(CosignatureAt(one.size, added_us, signature.key_id.hex()).key(), one.data)


_NOTHING: Final = ArchivedUpTo(0, 0, b"", 0, 0, datetime.min.replace(tzinfo=UTC))
