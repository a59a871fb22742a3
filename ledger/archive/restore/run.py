"""Restores orgs into a database from their archives alone.

Everything is verified before it is committed, with keys from outside the archive: the key
history with the operator's pins, checkpoints and anchors with that history, each entry with its
signing key, the tree over the entries with every archived checkpoint. One transaction does it
all: a crash leaves a database without these orgs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from ledger.archive.format.layout import LOG_KEYS, ORG
from ledger.archive.format.records import ArchivedCheckpoint, ArchivedOrg
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.restore.anchors import AnchorsRestore
from ledger.archive.restore.tree import TreeRestore
from ledger.archive.targets import Target
from ledger.archive.verification.anchoring import TrustedAttestors
from ledger.chain import EMPTY_HEAD, ChainHead, check_entry
from ledger.checkpoint import SignedTreeHead, TreeHead
from ledger.entry import from_datetime, to_datetime
from ledger.errors import (
    ArchiveObjectMissing,
    FormatError,
    KeyHistoryError,
    RestoreRefused,
)
from ledger.keys import SigningKeyring
from ledger.log_keys import KeyPins, LogKeyHistory
from ledger.storage.orgs import OrgRow
from ledger.storage.restoring import RestoreTransaction, restoring
from ledger.storage.trees import ANCHOR_LOG

ENTRIES_AT_ONCE: Final = 4_096
BYTES_AT_ONCE: Final = 32 << 20
_PLAIN: Final = "plain"
_SEALED: Final = "sealed"
_UNSEALED: Final = b',"seal":null,'
"""The member of an unsealed leaf, which is canonical JSON: strings in it escape their quotes."""


class RestoreResult(NamedTuple):
    """The outcome of restoring one org; ``lost`` entries were signed or appended, not archived.

    ``with_keys``: the org's row was in the database, and with it the key that opens sealed
    payloads. ``was_public``: according to the archive its log was public; the restored log is
    not.
    """

    org: str
    org_id: int
    entries: int
    checkpoints: int
    with_keys: bool
    lost: int
    was_public: bool


class RestoreInputs(NamedTuple):
    """The inputs of a restore from outside the archive and the database.

    ``pins`` pin the log's keys; ``new_key`` makes a wrapped key for the org with this slug;
    ``row_key`` authenticates the rows of orgs, and those that say what is archived;
    ``recall`` returns the tree heads that a signer remembers as its last of these orgs, and
    ``acknowledged`` the newest head of an org that the servers of this machine acknowledged;
    ``attestors`` are trusted for timestamps and cosignatures.
    """

    keyring: SigningKeyring
    pins: KeyPins
    new_key: Callable[[str], bytes]
    row_key: bytes
    recall: Callable[[Sequence[int]], Mapping[int, SignedTreeHead]] = lambda _: {}
    acknowledged: Callable[[int], ChainHead | None] = lambda _: None
    attestors: TrustedAttestors = TrustedAttestors()


class Restore:
    """Restores orgs of one target into one database.

    ``shorter`` accepts an archive with fewer entries than were signed. ``on_progress`` is called
    with a slug, the entries restored so far, and all its entries. :meth:`run` raises
    RestoreRefused, other ArchiveErrors, DatabaseUnavailable.
    """

    def __init__(
        self,
        target: Target,
        owner_url: str,
        inputs: RestoreInputs,
        *,
        shorter: bool = False,
        on_progress: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        self._target = target
        self._url = owner_url
        self._inputs = inputs
        self._shorter = shorter
        self._on_progress = on_progress
        self.warnings: list[str] = []
        """The parts of the archive that were not restored, and why."""

    async def run(self, slugs: Sequence[str]) -> list[RestoreResult]:
        """Restore these orgs and the log of all checkpoints, all or none."""
        # A crash before the transaction commits leaves the database as it was, except for empty
        # partitions of months, which are made outside the transaction.
        async with restoring(self._url) as transaction:
            anchors = AnchorsRestore(
                transaction,
                ArchiveReader.of_anchors(self._target),
                self._inputs.pins,
                self._inputs.attestors,
                self._inputs.row_key,
            )
            restored = []
            for slug in dict.fromkeys(slugs):
                reader = ArchiveReader(self._target, slug)
                history = await self._history(reader, transaction)
                restored.append(await self._org(transaction, reader, history))
            await anchors.restore([(org.org, org.org_id) for org in restored], self._target)
            self._check_memory(ANCHOR_LOG, "the log of all checkpoints", *anchors.end)
            await transaction.seal_again()
        # A crash from here on leaves the orgs restored; a second run is refused, as they exist.
        self.warnings = anchors.warnings
        return restored

    async def _history(
        self, reader: ArchiveReader, transaction: RestoreTransaction
    ) -> LogKeyHistory:
        """Read the archived key history and add to the database the statements it lacks.

        The history must agree with the pins and begin with the stored statements.
        """
        try:
            history = await reader.key_history()
            history.check_pins(self._inputs.pins)
        except (KeyHistoryError, ArchiveObjectMissing) as error:
            raise RestoreRefused(
                f"{reader.key(LOG_KEYS)} is not the history of the log's keys: {error}"
            ) from error
        archived = history.encoded_statements()
        stored = await transaction.statements()
        shared = min(len(stored), len(archived))
        if stored[:shared] != archived[:shared]:
            raise RestoreRefused(
                f"the key history in the database differs from that of {reader.org}: restore into "
                "a new database"
            )
        await transaction.add_statements(len(stored), archived[len(stored) :])
        return history

    async def _org(
        self, transaction: RestoreTransaction, reader: ArchiveReader, history: LogKeyHistory
    ) -> RestoreResult:
        about = await self._about(reader)
        checkpoint = await _checkpoint(reader, history)
        in_the_way = await transaction.in_the_way(about.org_id, about.org, about.privacy)
        if in_the_way is not None:
            raise RestoreRefused(
                f"the database already has {in_the_way}: restore {about.org} into a database "
                "without it"
            )
        lost = self._lost(about, checkpoint, await transaction.head_seq(about.org_id))
        row = OrgRow(
            about.org_id,
            about.org,
            about.name,
            about.privacy,
            self._inputs.new_key(about.org),
            False,  # org.json is not signed: it must not make a log public
            checkpoint.size if about.privacy == _SEALED else 0,
        )
        mac = row.mac(self._inputs.row_key)
        made = await transaction.add_org(row, to_datetime(about.created_us), mac)
        tree = TreeRestore(
            transaction, about.org_id, reader.history(), lambda row: _root(reader, history, row)
        )
        head = await self._entries(transaction, reader, about, checkpoint, tree)
        await tree.end(checkpoint.size, checkpoint.root, to_datetime(head.anchored_us))
        await transaction.set_head(about.org_id, head)
        return RestoreResult(
            about.org,
            about.org_id,
            checkpoint.size,
            tree.checkpoints,
            not made,
            lost,
            about.log_public and made,
        )

    async def _entries(
        self,
        transaction: RestoreTransaction,
        reader: ArchiveReader,
        about: ArchivedOrg,
        checkpoint: TreeHead,
        tree: TreeRestore,
    ) -> ChainHead:
        """Write the entries, each checked with its signing key and against the entry before it."""
        head, rows, volume = EMPTY_HEAD, [], 0
        async for entry in reader.entries(about.org_id, 0, checkpoint.size - 1, checkpoint.size):
            at_us = from_datetime(entry.anchored_at)
            faults = check_entry(entry, about.org, self._inputs.keyring, head.entry_hash)
            if faults or entry.seq != head.seq + 1 or at_us < head.anchored_us:
                reason = faults[0].reason if faults else "it is out of order"
                raise RestoreRefused(f"entry {entry.seq} of {about.org} is not valid: {reason}")
            if about.privacy == _PLAIN and _UNSEALED not in entry.leaf:
                raise RestoreRefused(
                    f"{reader.key(ORG)} says that {about.org} is plain, but its entry {entry.seq} "
                    "is sealed: new events would be stored unsealed. Put back the org.json that "
                    "says sealed"
                )
            head = ChainHead(entry.seq, entry.entry_hash, at_us)
            rows.append(entry)
            volume += len(entry.payload) + len(entry.leaf)
            await tree.add(entry.entry_hash)
            if len(rows) == ENTRIES_AT_ONCE or volume >= BYTES_AT_ONCE:
                await transaction.add_entries(rows)
                self._on_progress(about.org, head.seq + 1, checkpoint.size)
                rows, volume = [], 0
        await transaction.add_entries(rows)
        self._on_progress(about.org, head.seq + 1, checkpoint.size)
        return head

    async def _about(self, reader: ArchiveReader) -> ArchivedOrg:
        try:
            about = await reader.about()
        except ArchiveObjectMissing as error:
            raise RestoreRefused(f"{self._target.url} has no archive of {reader.org!r}") from error
        if about.org != reader.org or not about.org_id:
            raise RestoreRefused(
                f"{reader.key(ORG)} describes the org {about.org!r} instead of {reader.org}"
            )
        if about.privacy not in {_PLAIN, _SEALED}:
            raise RestoreRefused(
                f"{reader.key(ORG)} states the privacy {about.privacy[:40]!r}; it must be plain or "
                "sealed"
            )
        return about

    def _lost(self, about: ArchivedOrg, checkpoint: TreeHead, head_seq: int) -> int:
        """Return how many signed or appended entries are not archived.

        Raises RestoreRefused where there are any and ``shorter`` was not given.
        """
        lost = self._check_memory(about.org_id, about.org, checkpoint.size, checkpoint.root)
        acknowledged = self._inputs.acknowledged(about.org_id) or EMPTY_HEAD
        lost = max(lost, max(head_seq, acknowledged.seq) + 1 - checkpoint.size)
        if lost and not self._shorter:
            raise _too_short(about.org, checkpoint.size, checkpoint.size + lost)
        return lost

    def _check_memory(self, org_id: int, name: str, size: int, root: bytes) -> int:
        """Return how many leaves beyond this size the signer remembers as signed.

        Raises RestoreRefused where it remembers another root at this size, or, unless ``shorter``
        was given, a larger size.
        """
        known = self._inputs.recall((org_id,)).get(org_id)
        if known is None or known.size < size:
            return 0
        if known.size == size:
            if known.root != root:
                raise RestoreRefused(
                    f"at size {size} the signer signed another tree of {name} than the archived "
                    "one: find out which is right before you sign any further"
                )
            return 0
        if not self._shorter:
            raise _too_short(name, size, known.size)
        return known.size - size


def _too_short(name: str, size: int, signed: int) -> RestoreRefused:
    return RestoreRefused(
        f"the archive of {name} has {size} entries, but {signed} were signed or appended: "
        f"{signed - size} would be lost. Restore a backup of the database if you have one. "
        "--shorter restores the archived entries and accepts the loss of the others: an entry of "
        "the trail names them, and what was signed of them is contradicted from then on"
    )


async def _checkpoint(reader: ArchiveReader, history: LogKeyHistory) -> TreeHead:
    note = await reader.checkpoint()
    if note is None:
        raise RestoreRefused(f"nothing of {reader.org} is archived")
    try:
        return reader.opened(note, history)
    except FormatError as error:
        raise RestoreRefused(
            f"the archived checkpoint of {reader.org} can't be verified: {error}"
        ) from error


def _root(reader: ArchiveReader, history: LogKeyHistory, row: ArchivedCheckpoint) -> bytes:
    """Verify an archived checkpoint's signature and return the root that it states."""
    try:
        opened = reader.opened(row.note, history)
    except FormatError as error:
        raise RestoreRefused(
            f"the checkpoint of {reader.org} at size {row.size} can't be verified: {error}"
        ) from error
    if opened.size != row.size:
        raise RestoreRefused(
            f"the checkpoint of {reader.org} archived for size {row.size} states size {opened.size}"
        )
    return opened.root
