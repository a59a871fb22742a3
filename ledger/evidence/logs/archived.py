"""Checks the files of an archive beside its log (docs/format.md, "The archive").

The parsers follow the description alone and share no code with the archive writer: an
auditor's verdict must not depend on the writer's reading of its own format.
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
"""The most bytes of a pack; one payload of 64 MiB with its seal fits easily."""
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
    """Checks an archive's own files; ``check_note`` checks a signed checkpoint of a given size.

    One of these files makes the log an archive, which must then be complete: it needs the
    history of its checkpoints and, for a trail, every payload.
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
        self._packs = self._payloads = 0
        self._is_trail = is_trail
        self._is_archive = self._has_payloads = False
        self._history_end = 0
        """The size up to which the spans of the history so far have no gap."""
        self._tile = -1
        self._covered = bytearray()
        """Flags of the entries of bundle ``_tile`` with a payload; its packs come together."""

    def check(self, path: str) -> bool:
        """Check one file; return False for a file that the checkpoint does not cover.

        Raises EvidenceError for wrong records.
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
        """Record the findings about the whole history and about all payloads together."""
        if self._is_archive:
            self._extend_history(self._size, self._size)
        if not self._has_payloads:
            return
        self._start_bundle(-1)
        if self._payloads < self._size:
            missing = self._size - self._payloads
            self._findings.fails("payloads", f"the payloads of {missing} entries are missing")
        self._findings.holds(
            "payloads", f"{self._payloads} payloads match their leaves, in {self._packs} packs"
        )

    @property
    def asked(self) -> frozenset[str]:
        """The checks that an archive needs besides those of every log."""
        return frozenset({"payloads"} if self._has_payloads else ())

    def _extend_history(self, after: int, last: int) -> None:
        """Add a span of the history and record a gap before it; spans come in the order of names."""
        if after > self._history_end:
            missing = f"{self._history_end + 1} to {after}"
            self._findings.fails(
                "checkpoints", f"history: no file has the checkpoints of sizes {missing}"
            )
        self._history_end = max(self._history_end, last)

    def _check_pack(self, path: str, named: re.Match[str]) -> bool:
        bundle = parse_path(f"tile/entries/{named[1]}").index
        first, last = int(named[2]), int(named[3])
        if bundle * TILE_WIDTH + last >= self._size:
            return False  # written ahead of the checkpoint
        self._packs += 1
        self._start_bundle(bundle)
        try:
            self._check_payloads(path, bundle, first, last)
        except QuireError as error:
            self._findings.fails("payloads", f"{path}: {error}")
        return True

    def _check_payloads(self, path: str, bundle: int, first: int, last: int) -> None:
        if not first <= last < TILE_WIDTH:
            raise EvidenceError("the range of entries in its name is not valid")
        start = bundle * TILE_WIDTH + first
        payloads = _unpack(self._read(path, PACK_BYTES_MAX) or b"", start, last - first + 1)
        width = tile_in(self._size, 0, bundle).width
        leaves = self._log.entries(EntryTile(bundle, width))[first : last + 1]
        for seq, (leaf, payload) in enumerate(zip(leaves, payloads, strict=True), start):
            digest = decode_leaf(leaf).payload
            if (len(payload), blake3(payload).hexdigest()) != (digest.size, digest.blake3):
                raise EvidenceError(f"the payload of entry {seq} differs from the one in its leaf")
        self._covered[first : last + 1] = b"\x01" * len(payloads)

    def _start_bundle(self, bundle: int) -> None:
        if bundle != self._tile:
            self._payloads += sum(self._covered)
            self._tile, self._covered = bundle, bytearray(TILE_WIDTH)

    def _check_records(self, path: str, named: re.Match[str]) -> bool:
        rows = _rows(self._read(path, RECORDS_BYTES_MAX) or b"")
        if named[1] != "history":
            return True
        after, last = int(named[2]), int(named[3])
        if last > self._size:
            return False
        self._extend_history(after, last)
        for row in rows:
            try:
                signed = msgspec.json.decode(row, type=_Signed)
            except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                raise EvidenceError(f"a line can't be read: {error}") from None
            if not after < signed.size <= last:
                raise EvidenceError(f"the checkpoint of size {signed.size} is out of order")
            self._check_note(signed.note, signed.size)
            after = signed.size
        return True


def _unpack(data: bytes, first: int, count: int) -> list[bytes]:
    """Return the payloads of a pack of ``count`` entries from ``first`` on. Raises EvidenceError."""
    table_end = _HEAD.size + count * _ROW.size
    at = table_end + _DIGEST_BYTES
    table = data[:table_end]
    if table[: _HEAD.size] != _HEAD.pack(_MAGIC, first, count) or len(data) < at:
        raise EvidenceError(f"it is not a pack of {count} entries from {first} on")
    if blake3(table).digest() != data[table_end:at]:
        raise EvidenceError("its digest does not match its table")
    payloads = []
    for length, _signature in _ROW.iter_unpack(table[_HEAD.size :]):
        payloads.append(data[at : at + length])
        at += length
    if at != len(data):
        raise EvidenceError("its length differs from the length its table states")
    return payloads


def _rows(data: bytes) -> list[bytes]:
    """Return the lines of a file that ends in its digest. Raises EvidenceError."""
    body, newline, digest = data.removesuffix(b"\n").rpartition(b"\n")
    body += newline
    if not data.endswith(b"\n") or digest != msgspec.json.encode(
        _DigestLine(blake3(body).hexdigest())
    ):
        raise EvidenceError("its digest does not match its lines")
    rows = body.split(b"\n")[:-1]
    if len(rows) > ROWS_MAX:
        raise EvidenceError(f"it has more than {ROWS_MAX} lines")
    return rows
