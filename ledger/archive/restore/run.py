"""Restoring orgs into a database from their archives alone.

All that comes back is verified before it is committed, by keys from outside the archive: the
key history by the operator's own, checkpoints and anchors by that history, each entry by its
signing key, the tree over the entries by every checkpoint there ever was. One transaction
holds it all: what a crash leaves is a database without these orgs.
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
from ledger.storage.restoring import NewOrg, RestoreTransaction, restoring
from ledger.storage.trees import ANCHOR_LOG

ENTRIES_AT_ONCE: Final = 4_096
BYTES_AT_ONCE: Final = 32 << 20
_PLAIN: Final = "plain"
_SEALED: Final = "sealed"
_UNSEALED: Final = b',"seal":null,'
"""In a leaf, which is canonical JSON: inside a string its quotes would be escaped."""


class RestoreResult(NamedTuple):
    """What came back of an org; ``lost`` entries were signed or appended and not archived.

    ``with_keys``: its row, and so the key that opens sealed payloads, was in the database.
    ``was_public``: its log was, as the archive says, which makes none public.
    """

    org: str
    org_id: int
    entries: int
    checkpoints: int
    with_keys: bool
    lost: int
    was_public: bool


class RestoreInputs(NamedTuple):
    """What a restore works with, from outside the archive and the database.

    ``pins`` are of the log's keys; ``new_key`` makes a wrapped key for an org of this slug;
    ``recall`` tells what a signer remembers to have signed of these orgs; ``attestors`` are
    trusted for timestamps and cosignatures.
    """

    keyring: SigningKeyring
    pins: KeyPins
    new_key: Callable[[str], bytes]
    recall: Callable[[Sequence[int]], Mapping[int, SignedTreeHead]] = lambda _: {}
    attestors: TrustedAttestors = TrustedAttestors()


class Restore:
    """Restores orgs of one target into one database.

    ``shorter`` accepts that less is archived than was signed. ``told`` hears of entries as they
    come back. :meth:`run` raises RestoreRefused, other ArchiveErrors, DatabaseUnavailable.
    """

    def __init__(
        self,
        target: Target,
        owner_url: str,
        means: RestoreInputs,
        *,
        shorter: bool = False,
        told: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        self._target = target
        self._url = owner_url
        self._means = means
        self._shorter = shorter
        self._told = told
        self.warnings: list[str] = []
        """What did not come back of the archive although it was there, and why."""

    async def run(self, slugs: Sequence[str]) -> list[RestoreResult]:
        """Restore these orgs and the log of all checkpoints, all or none."""
        async with restoring(self._url) as transaction:
            anchors = AnchorsRestore(
                transaction,
                ArchiveReader.of_anchors(self._target),
                self._means.pins,
                self._means.attestors,
            )
            restored = []
            for slug in dict.fromkeys(slugs):
                reader = ArchiveReader(self._target, slug)
                history = await self._history(reader, transaction)
                restored.append(await self._org(transaction, reader, history))
            await anchors.restore([(one.org, one.org_id) for one in restored], self._target)
            self._check_memory(ANCHOR_LOG, "the log of all checkpoints", *anchors.end)
            await transaction.seal_again()
        self.warnings = anchors.warnings
        return restored

    async def _history(
        self, reader: ArchiveReader, transaction: RestoreTransaction
    ) -> LogKeyHistory:
        """The archived key history, which goes on from the pinned keys and the stored ones."""
        try:
            history = await reader.key_history()
            history.check_pins(self._means.pins)
        except (KeyHistoryError, ArchiveObjectMissing) as error:
            raise RestoreRefused(
                f"{reader.key(LOG_KEYS)} is not the history of the log's keys: {error}"
            ) from error
        wanted = history.encoded_statements()
        stored = await transaction.statements()
        shared = min(len(stored), len(wanted))
        if stored[:shared] != wanted[:shared]:
            raise RestoreRefused(
                f"the database holds the history of other log keys than those of {reader.org}: "
                "restore into a new database"
            )
        await transaction.add_statements(len(stored), wanted[len(stored) :])
        return history

    async def _org(
        self, transaction: RestoreTransaction, reader: ArchiveReader, history: LogKeyHistory
    ) -> RestoreResult:
        about = await self._about(reader)
        checkpoint = await _checkpoint(reader, history)
        in_the_way = await transaction.in_the_way(about.org_id, about.org, about.privacy)
        if in_the_way is not None:
            raise RestoreRefused(
                f"the database has {in_the_way} already: {about.org} is restored into a database "
                "without it"
            )
        lost = self._lost(about, checkpoint, await transaction.head_seq(about.org_id))
        made = await transaction.add_org(
            NewOrg(
                about.org_id,
                about.org,
                about.name,
                about.privacy,
                self._means.new_key(about.org),
                to_datetime(about.created_us),
                False,  # nobody signed what the archive says of it
                checkpoint.size if about.privacy == _SEALED else 0,
            )
        )
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
        """Write the entries, each checked against its key and the one before it."""
        head, rows, held = EMPTY_HEAD, [], 0
        async for entry in reader.entries(about.org_id, 0, checkpoint.size - 1, checkpoint.size):
            at_us = from_datetime(entry.anchored_at)
            faults = check_entry(entry, about.org, self._means.keyring, head.entry_hash)
            if faults or entry.seq != head.seq + 1 or at_us < head.anchored_us:
                reason = faults[0].reason if faults else "it is not in its place"
                raise RestoreRefused(f"entry {entry.seq} of {about.org} is not right: {reason}")
            if about.privacy == _PLAIN and _UNSEALED not in entry.leaf:
                raise RestoreRefused(
                    f"{reader.key(ORG)} says that {about.org} is plain, but its entry {entry.seq} "
                    "is sealed: new events would be stored unsealed. Put the org.json back that "
                    "says sealed"
                )
            head = ChainHead(entry.seq, entry.entry_hash, at_us)
            rows.append(entry)
            held += len(entry.payload) + len(entry.leaf)
            await tree.add(entry.entry_hash)
            if len(rows) == ENTRIES_AT_ONCE or held >= BYTES_AT_ONCE:
                await transaction.add_entries(rows)
                self._told(about.org, head.seq + 1, checkpoint.size)
                rows, held = [], 0
        await transaction.add_entries(rows)
        self._told(about.org, head.seq + 1, checkpoint.size)
        return head

    async def _about(self, reader: ArchiveReader) -> ArchivedOrg:
        try:
            about = await reader.about()
        except ArchiveObjectMissing as error:
            raise RestoreRefused(
                f"there is no archive of {reader.org!r} in {self._target.url}"
            ) from error
        if about.org != reader.org or not about.org_id:
            raise RestoreRefused(f"the archive of {reader.org} says that it is of {about.org!r}")
        if about.privacy not in {_PLAIN, _SEALED}:
            raise RestoreRefused(
                f"{reader.key(ORG)} names a privacy that is none: {about.privacy[:40]!r}"
            )
        return about

    def _lost(self, about: ArchivedOrg, checkpoint: TreeHead, head_seq: int) -> int:
        """How many entries are known of that the archive does not have."""
        lost = self._check_memory(about.org_id, about.org, checkpoint.size, checkpoint.root)
        lost = max(lost, head_seq + 1 - checkpoint.size)
        if lost and not self._shorter:
            raise _too_short(about.org, checkpoint.size, checkpoint.size + lost)
        return lost

    def _check_memory(self, org_id: int, name: str, size: int, root: bytes) -> int:
        """How many leaves were signed beyond this size, as the signer remembers it.

        Raises RestoreRefused where it remembers something else of this size, or more.
        """
        known = self._means.recall((org_id,)).get(org_id)
        if known is None or known.size < size:
            return 0
        if known.size == size:
            if known.root != root:
                raise RestoreRefused(
                    f"the signer signed another tree of {name} at size {size} than the archived "
                    "one: find out which is right before anything is signed on"
                )
            return 0
        if not self._shorter:
            raise _too_short(name, size, known.size)
        return known.size - size


def _too_short(name: str, size: int, signed: int) -> RestoreRefused:
    return RestoreRefused(
        f"the archive of {name} has {size} entries, but {signed} were signed or appended: "
        f"{signed - size} would be lost. Restore a backup of the database if there is one; "
        "--shorter restores what is archived, which then stays unsigned from there on, as nothing "
        "is ever signed twice"
    )


async def _checkpoint(reader: ArchiveReader, history: LogKeyHistory) -> TreeHead:
    note = await reader.checkpoint()
    if note is None:
        raise RestoreRefused(f"nothing of {reader.org} is archived")
    try:
        return reader.opened(note, history)
    except FormatError as error:
        raise RestoreRefused(f"the archived checkpoint of {reader.org}: {error}") from error


def _root(reader: ArchiveReader, history: LogKeyHistory, row: ArchivedCheckpoint) -> bytes:
    """The root that an archived checkpoint states, its signature verified."""
    try:
        opened = reader.opened(row.note, history)
    except FormatError as error:
        raise RestoreRefused(
            f"the checkpoint of {reader.org} of size {row.size}: {error}"
        ) from error
    if opened.size != row.size:
        raise RestoreRefused(f"the checkpoint of {reader.org} of size {row.size} says otherwise")
    return opened.root
