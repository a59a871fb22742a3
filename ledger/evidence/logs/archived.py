"""What an archive of a trail has beside its log (docs/format.md, "The archive").

Read here from the description alone, not by the code that writes archives: an
auditor's verdict does not lean on the writer's idea of its own format.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import Struct
from typing import Final

import msgspec
from blake3 import blake3

from ledger.entry import decode_leaf
from ledger.errors import EvidenceError, QuireError
from ledger.evidence.verdict import Findings
from ledger.tiles import TILE_WIDTH, EntryTile, StaticLog, parse_path, tile_in

PACK_BYTES_MAX: Final = 1 << 27
"""One payload of 64 MiB and its seal fit easily."""
RECORDS_BYTES_MAX: Final = 1 << 26
ROWS_MAX: Final = 10_000
_PACK: Final = re.compile(r"payloads/((?:x[0-9]{3}/)*[0-9]{3})/([0-9]{3})-([0-9]{3})")
_RECORDS: Final = re.compile(r"(history|nonces)/([0-9]{16})-([0-9]{16})|(org)\.json")
_HEAD: Final = Struct(">18sQH")
_ROW: Final = Struct(">I32s")
_MAGIC: Final = b"quire payloads v1\n"
_DIGEST_BYTES: Final = 32

ReadUpTo = Callable[[str, int], bytes | None]
CheckNote = Callable[[bytes, int], None]


class _DigestLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    blake3: str


class _Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    note: bytes
    signed_us: int
    size: int


class ArchivedFilesCheck:
    """Checks an archive's own files; ``check_note`` judges a signed checkpoint of a size.

    One such file makes the log an archive, which must then be whole: the history of its
    checkpoints and, where it is of a trail, every payload.
    """

    def __init__(
        self,
        read: ReadUpTo,
        log: StaticLog,
        size: int,
        check_note: CheckNote,
        findings: Findings,
        *,
        is_trail: bool,
    ) -> None:
        self._read = read
        self._log = log
        self._size = size
        self._check_note = check_note
        self._findings = findings
        self._packs = self._payloads = self._held = 0
        self._is_trail = is_trail
        self._is_archive = self._has_payloads = False
        self._told_up_to = 0
        """The size up to which the spans of the history so far follow one another."""
        self._tile = -1
        self._covered = bytearray()
        """Which entries of the bundle ``_tile`` have their payload; its packs come together."""

    def check(self, path: str) -> bool:
        """Check one file; False for one that the checkpoint does not cover.

        Raises EvidenceError for records that are not right.
        """
        if pack := _PACK.fullmatch(path):
            self._is_archive = self._has_payloads = True
            return self._check_pack(path, pack)
        if records := _RECORDS.fullmatch(path):
            self._is_archive = True
            self._has_payloads |= self._is_trail or records[1] != "history"
            return self._check_records(path, records)
        return False

    def finish(self) -> None:
        """What can be said of the whole history, and of all payloads together."""
        if self._is_archive:
            self._has_told(self._size, self._size)
        if not self._has_payloads:
            return
        self._turn_to(-1)
        if self._held < self._size:
            missing = self._size - self._held
            self._findings.fails("payloads", f"those of {missing} entries are not there")
        self._findings.holds(
            "payloads", f"{self._held} as their leaves say, in {self._packs} packs"
        )

    @property
    def asked(self) -> frozenset[str]:
        """The checks that an archive is asked for besides those of every log."""
        return frozenset({"payloads"} if self._has_payloads else ())

    def _has_told(self, after: int, last: int) -> None:
        """A span of the history; they come in the order of their names."""
        if after > self._told_up_to:
            missing = f"{self._told_up_to + 1} to {after}"
            self._findings.fails(
                "checkpoints", f"history: no span has the checkpoints of sizes {missing}"
            )
        self._told_up_to = max(self._told_up_to, last)

    def _check_pack(self, path: str, named: re.Match[str]) -> bool:
        bundle = parse_path(f"tile/entries/{named[1]}").index
        first, last = int(named[2]), int(named[3])
        if bundle * TILE_WIDTH + last >= self._size:
            return False  # written ahead of the checkpoint
        self._packs += 1
        self._turn_to(bundle)
        try:
            self._hold_against_leaves(path, bundle, first, last)
        except QuireError as error:
            self._findings.fails("payloads", f"{path}: {error}")
        return True

    def _hold_against_leaves(self, path: str, bundle: int, first: int, last: int) -> None:
        if not first <= last < TILE_WIDTH:
            raise EvidenceError("no pack has these entries")
        start = bundle * TILE_WIDTH + first
        payloads = _unpack(self._read(path, PACK_BYTES_MAX) or b"", start, last - first + 1)
        width = tile_in(self._size, 0, bundle).width
        leaves = self._log.entries(EntryTile(bundle, width))[first : last + 1]
        for seq, (leaf, payload) in enumerate(zip(leaves, payloads, strict=True), start):
            digest = decode_leaf(leaf).payload
            if (len(payload), blake3(payload).hexdigest()) != (digest.size, digest.blake3):
                raise EvidenceError(f"the payload of entry {seq} is not the one its leaf says")
        self._covered[first : last + 1] = b"\x01" * len(payloads)

    def _turn_to(self, bundle: int) -> None:
        if bundle != self._tile:
            self._held += sum(self._covered)
            self._tile, self._covered = bundle, bytearray(TILE_WIDTH)

    def _check_records(self, path: str, named: re.Match[str]) -> bool:
        rows = _rows(self._read(path, RECORDS_BYTES_MAX) or b"")
        if named[1] != "history":
            return True
        after, last = int(named[2]), int(named[3])
        if last > self._size:
            return False
        self._has_told(after, last)
        for row in rows:
            try:
                signed = msgspec.json.decode(row, type=_Signed)
            except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                raise EvidenceError(f"a line can't be read: {error}") from None
            if not after < signed.size <= last:
                raise EvidenceError(f"a checkpoint of size {signed.size} is out of its place")
            self._check_note(signed.note, signed.size)
            after = signed.size
        return True


def _unpack(data: bytes, first: int, count: int) -> list[bytes]:
    """The payloads of a pack of these entries. Raises EvidenceError."""
    table_end = _HEAD.size + count * _ROW.size
    at = table_end + _DIGEST_BYTES
    table = data[:table_end]
    if table[: _HEAD.size] != _HEAD.pack(_MAGIC, first, count) or len(data) < at:
        raise EvidenceError(f"it is no pack of {count} entries from {first} on")
    if blake3(table).digest() != data[table_end:at]:
        raise EvidenceError("its table is not what its digest says")
    payloads = []
    for length, _signature in _ROW.iter_unpack(table[_HEAD.size :]):
        payloads.append(data[at : at + length])
        at += length
    if at != len(data):
        raise EvidenceError("it is not as long as its table says")
    return payloads


def _rows(data: bytes) -> list[bytes]:
    """The lines of an object that ends in its digest. Raises EvidenceError."""
    body, newline, digest = data.removesuffix(b"\n").rpartition(b"\n")
    body += newline
    if not data.endswith(b"\n") or digest != msgspec.json.encode(
        _DigestLine(blake3(body).hexdigest())
    ):
        raise EvidenceError("its lines are not what its digest says")
    rows = body.split(b"\n")[:-1]
    if len(rows) > ROWS_MAX:
        raise EvidenceError(f"it has more than {ROWS_MAX} lines")
    return rows
