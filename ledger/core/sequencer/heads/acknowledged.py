"""The heads that the processes of this machine acknowledged, stored outside the database.

One file in the data directory, mapped by all processes: before a caller is answered, the head that
the answer names is in it. So a database that was rolled back or cut can't make them forget an
entry. A store into the mapping survives the end of every process (kill -9). It reaches the disk a
few seconds later: a power cut may lose the last moments, and then protects an older head.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ledger.bounded import BoundedCache
from ledger.chain import EMPTY_HEAD, ChainHead
from ledger.core.sequencer.heads.records import (
    FREE,
    SLOT_BYTES,
    HeadsDamaged,
    UnfinishedSlot,
    pack_header,
    pack_record,
    record_place,
    unpack_header,
    unpack_slot,
)
from ledger.errors import UNAVAILABLE, QuireError

HEADS_FILE: Final = "acknowledged.heads"
"""The file's name in the data directory."""
GROWTH_BYTES: Final = 512 * SLOT_BYTES
"""The file grows by so many bytes, which the file system reserves: a full disk is an error then."""
MAX_CACHED: Final = 10_000
"""Decoded slots that one process caches."""


class HeadMemoryUnavailable(QuireError):
    """The file of acknowledged heads can't be used: nothing is appended without it."""

    problem_type = UNAVAILABLE


class ForeignHeads(HeadMemoryUnavailable):
    """The file of acknowledged heads belongs to another database."""


class AcknowledgedHeads:
    """The file, opened by one process. Methods raise HeadMemoryUnavailable.

    ``identity`` are 32 bytes that name the database. A missing file is made: ``is_new``.
    """

    def __init__(self, path: Path, identity: bytes) -> None:
        self._path = path
        self.is_new = False
        self._slots: dict[int, int] = {}
        self._cached: BoundedCache[int, tuple[bytes, ChainHead, int]] = BoundedCache(MAX_CACHED)
        self._unsynced = False
        self._end = SLOT_BYTES  # after the header
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unavailable(error) from error
        try:
            with self._locked():
                self._begin(identity)
                self._scan_all()
        except BaseException:
            os.close(self._file)
            raise

    def _begin(self, identity: bytes) -> None:
        try:
            size = os.fstat(self._file).st_size
            if size == 0:
                # A crash here leaves an empty file, which the next start begins again.
                os.fchmod(self._file, 0o600)
                os.pwrite(self._file, pack_header(identity), 0)
                self.is_new = True
            elif size < SLOT_BYTES:
                raise HeadsDamaged("it ends within its header")
            self._map()
            own = unpack_header(self._mapped[:SLOT_BYTES])
        except (OSError, ValueError, HeadsDamaged) as error:
            raise self._unavailable(error) from error
        if own != identity:
            raise ForeignHeads(
                f"{self._path} has the acknowledged heads of another database: compared with it, "
                "trails of this one could look cut. Nothing was changed. Restore this database's "
                f"own file from your backup, or move this file away: mv {self._path} "
                f"{self._path}.other"
            )

    def get(self, org_id: int) -> ChainHead | None:
        """Return the newest acknowledged head of an org; None if there is none."""
        at = self._find(org_id)
        if at is None:
            return None
        head = self._read(org_id, at)[0]
        return None if head == EMPTY_HEAD else head

    def reserve(self, org_ids: Iterable[int]) -> None:
        """Give each org a slot, so that :meth:`remember` needs no space on the disk."""
        missing = [org_id for org_id in org_ids if org_id not in self._slots]
        if missing and any(self._find(org_id) is None for org_id in missing):
            with self._locked():
                for org_id in missing:
                    if self._find(org_id) is None:
                        self._add(org_id)

    def remember(self, heads: Mapping[int, ChainHead]) -> None:
        """Store these heads, unless a higher one is stored. Every process sees them at once."""
        self.reserve(heads)
        with self._locked():
            for org_id, head in heads.items():
                at = self._slots[org_id]
                known, number = self._read(org_id, at)
                if head.seq > known.seq:
                    # A crash within this store leaves the other record, which is older: no caller
                    # was answered yet.
                    self._mapped[record_place(at, number)] = pack_record(org_id, head)
        self._unsynced = True

    def reset(self, org_id: int, head: ChainHead) -> None:
        """Store a head in place of a higher or different one, after an operator accepted the loss."""
        self.reserve([org_id])
        record = pack_record(org_id, head)
        with self._locked():
            at = self._slots[org_id]
            number = self._read(org_id, at)[1]
            for each in (number, 1 - number):
                # A crash between the two leaves the higher head: the reset is repeated.
                self._mapped[record_place(at, each)] = record
        self._unsynced = True

    def sync(self) -> None:
        """Write what was stored to the disk, if anything was; it protects from a power cut."""
        if self._unsynced:
            self._unsynced = False
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self._unsynced = True
                raise self._unavailable(error) from error

    def close(self) -> None:
        """Close the file."""
        self._mapped.close()
        os.close(self._file)

    def _find(self, org_id: int) -> int | None:
        """Return the place of an org's slot, also of one that another process added."""
        at = self._slots.get(org_id)
        if at is None:
            self._scan()
            at = self._slots.get(org_id)
        return at

    def _scan(self) -> None:
        """Read the slots that other processes added since the last scan."""
        while (slot := self._slot(self._end)) is not None and slot != FREE:
            if not self._index(self._end):
                return  # it is being written, or a crash left it: the next org gets it
            self._end += SLOT_BYTES

    def _scan_all(self) -> None:
        """Read all slots. A power cut may leave free ones between them: these are not used again."""
        for at in range(SLOT_BYTES, len(self._mapped), SLOT_BYTES):
            if self._slot(at) != FREE and self._index(at):
                self._end = at + SLOT_BYTES

    def _index(self, at: int) -> bool:
        """Note which org a slot belongs to; False for one whose first write did not end."""
        try:
            org_id, _, _ = self._unpack(at)
        except UnfinishedSlot:
            return False
        self._slots[org_id] = at
        return True

    def _slot(self, at: int) -> bytes | None:
        """Return the bytes of a slot; None beyond the end of the file."""
        if at + SLOT_BYTES > len(self._mapped) and not self._map_more():
            return None
        return self._mapped[at : at + SLOT_BYTES]

    def _map_more(self) -> bool:
        before = len(self._mapped)
        if os.fstat(self._file).st_size > before:
            self._map()
        return len(self._mapped) > before

    def _add(self, org_id: int) -> None:
        """Write the slot of a new org, under the lock."""
        at = self._end
        try:
            if at + SLOT_BYTES > len(self._mapped):
                os.posix_fallocate(self._file, len(self._mapped), GROWTH_BYTES)
                self._map()
        except OSError as error:
            raise self._unavailable(error) from error
        record = pack_record(org_id, EMPTY_HEAD)
        # The first record last: a crash in between leaves a slot that `unpack_slot` finds unfinished
        # or whole.
        self._mapped[record_place(at, 0)] = bytes(len(record))
        self._mapped[record_place(at, 1)] = bytes(len(record))
        self._mapped[record_place(at, 0)] = record
        self._mapped[record_place(at, 1)] = record
        self._slots[org_id] = at
        self._end = at + SLOT_BYTES

    def _map(self) -> None:
        size = os.fstat(self._file).st_size
        self._mapped = mmap.mmap(self._file, size - size % SLOT_BYTES)

    def _read(self, org_id: int, at: int) -> tuple[ChainHead, int]:
        """Return the head in a slot, and the number of the record to write next."""
        slot = self._mapped[at : at + SLOT_BYTES]
        known = self._cached.get(org_id)
        if known is not None and known[0] == slot:
            return known[1:]
        found, head, number = self._unpack(at)
        if found != org_id:
            raise self._unavailable(HeadsDamaged("a slot changed its org"))
        self._cached.put(org_id, (slot, head, number))
        return head, number

    def _unpack(self, at: int) -> tuple[int, ChainHead, int]:
        try:
            return unpack_slot(self._mapped[at : at + SLOT_BYTES])
        except HeadsDamaged:
            # Another process may have written both records meanwhile: read again under the lock.
            with self._locked():
                slot = self._mapped[at : at + SLOT_BYTES]
            try:
                return unpack_slot(slot)
            except HeadsDamaged as error:
                raise self._unavailable(error) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing; the kernel releases the lock of a dead process."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _unavailable(self, error: Exception) -> HeadMemoryUnavailable:
        return HeadMemoryUnavailable(
            f"the file of acknowledged heads {self._path} can't be used: {error}. Nothing is "
            "appended until it can be. Free disk space, or restore the file from your newest "
            "backup. Without one, verify all trails, then move the file away: a new one begins with "
            "the heads of the database"
        )
