"""Checks the older files of a log: earlier checkpoints, and partial tiles since replaced."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ledger.checkpoint import TreeHead, parse_checkpoint
from ledger.errors import CheckpointError, EvidenceError, QuireError, TileError
from ledger.evidence.logs.archived import ArchivedFilesCheck
from ledger.evidence.logs.source import Source
from ledger.evidence.logs.trusted import LogVerifiers
from ledger.evidence.verdict import Findings
from ledger.merkle import HASH_BYTES
from ledger.note import open_note, parse_note
from ledger.tiles import EntryTile, StaticLog, Tile, parse_path, read_bundle, tile_in

_OLDER: Final = re.compile(r"checkpoints/([0-9]{1,20})|checkpoint\.([0-9]{1,20})")
_TILES: Final = "tile/"
_POINTERS: Final = frozenset({"checkpoint", "log-keys.json"})
_CACHED_FILES: Final = 64
_NAMED_MAX: Final = 5


def older_size(named: re.Match[str]) -> int:
    """Return the size in the name of an older checkpoint."""
    return int(named[1] or named[2])


def newest_kept(source: Source, size: int) -> str | None:
    """Return the path of the newest checkpoint file that is larger than ``size``, or None.

    A writer stores the pointer ``checkpoint`` last, so that it may be behind.
    """
    newest = None
    for path in source.paths() or ():
        older = _OLDER.fullmatch(path)
        if older is not None and older_size(older) > size:
            newest, size = path, older_size(older)
    return newest


def check_kept(
    source: Source, head: TreeHead, keys: LogVerifiers, findings: Findings
) -> frozenset[str]:
    """Check every file of the log that the newest checkpoint does not need.

    Returns the checks that these files need besides those of every log.
    """
    paths = source.paths()
    if paths is None:
        findings.holds("checkpoints", "older checkpoints can't be listed below a URL")
        return frozenset()
    kept = _Kept(source, head, keys, findings)
    for path in paths:
        kept.check(path)
    return kept.finish()


class _Kept:
    def __init__(
        self, source: Source, head: TreeHead, keys: LogVerifiers, findings: Findings
    ) -> None:
        # Proofs of neighbours need the same tiles, so a few are cached.
        self._log = StaticLog(lru_cache(_CACHED_FILES)(source.read), head.size)
        self._source = source
        self._head = head
        self._keys = keys
        self._findings = findings
        self._archived = ArchivedFilesCheck(
            source.read,
            self._log,
            head.size,
            self._check_note,
            findings,
            is_trail=keys.slug is not None,
        )
        self._checkpoints = 0
        self._uncovered: list[str] = []
        self._uncovered_count = 0

    def check(self, path: str) -> None:
        older = _OLDER.fullmatch(path)
        check = "tree" if path.startswith(_TILES) else "checkpoints"
        try:
            if older is not None:
                self._check_checkpoint(path, older_size(older))
            elif path.startswith(_TILES):
                self._check_tile(path)
            elif path not in _POINTERS and not self._archived.check(path):
                self._add_uncovered(path)
        except QuireError as error:
            self._findings.fails(check, f"{path}: {error}")

    def finish(self) -> frozenset[str]:
        self._archived.finish()
        if self._checkpoints:
            self._findings.holds(
                "checkpoints", f"{self._checkpoints} older checkpoints are of the same tree"
            )
        if self._uncovered_count:
            shown = ", ".join(self._uncovered)
            more = ", …" if self._uncovered_count > len(self._uncovered) else ""
            self._findings.warnings.append(
                f"{self._uncovered_count} files are not covered by the checkpoint ({shown}{more})"
            )
        return self._archived.asked

    def _add_uncovered(self, path: str) -> None:
        self._uncovered_count += 1
        if len(self._uncovered) < _NAMED_MAX:
            self._uncovered.append(path)

    def _check_checkpoint(self, path: str, size: int) -> None:
        note = self._source.read(path)
        if note is None:
            raise EvidenceError("it is not a regular file")
        self._check_note(note, size)

    def _check_note(self, note: bytes, size: int) -> None:
        """Check that a checkpoint of this size is signed, of this log, and of the same tree."""
        if self._keys.classical:
            open_note(note, self._keys.classical)
        checkpoint = parse_checkpoint(parse_note(note).text)
        if (checkpoint.origin, checkpoint.size) != (self._head.origin, size):
            raise CheckpointError(
                f"it is the checkpoint of {checkpoint.origin!r} at size {checkpoint.size}"
            )
        if size > self._head.size:
            raise CheckpointError(
                f"it has size {size}, more than the newest checkpoint: was that one set back?"
            )
        if checkpoint.root != self._log.edge(size).root():
            raise CheckpointError(
                "its root differs from the root of the tree at its size: the log has two histories"
            )
        self._checkpoints += 1

    def _check_tile(self, path: str) -> None:
        unit = parse_path(path)
        level = 0 if isinstance(unit, EntryTile) else unit.level
        try:
            current = tile_in(self._head.size, level, unit.index).width
        except TileError:
            current = 0
        if unit.width == current:
            return  # verified with the log itself
        if unit.width > current:
            self._add_uncovered(path)
            return
        data = self._source.read(path) or b""
        if isinstance(unit, Tile):
            if len(data) != unit.width * HASH_BYTES or data != self._log.tile(unit):
                raise TileError("it differs from the start of the wider tile")
        elif read_bundle(data, unit.width) != self._log.entries(unit):
            raise TileError("it differs from the start of the wider bundle")
