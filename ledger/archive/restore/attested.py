"""Restores timestamps and cosignatures; each is checked to belong to its anchor."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ledger.archive.reading.reader import ArchivedCosignature, ArchivedToken, ArchiveReader
from ledger.archive.verification.anchoring import TrustedAttestors
from ledger.entry import to_datetime
from ledger.errors import FormatError, NoteError, RestoreRefused, TimestampError
from ledger.note import parse_note, parse_signatures
from ledger.storage.restoring_anchors import AnchorRows
from ledger.timestamp import stated_time, verify

AT_ONCE: Final = 200
WARNINGS_MAX: Final = 100


class AttestedRestore:
    """Restores timestamps and cosignatures of anchors that were restored before.

    Without trusted authorities or witnesses, only what needs no trust is checked: that a token
    states a time for its anchor, and that a cosignature is one signature line.
    """

    def __init__(
        self, rows: AnchorRows, reader: ArchiveReader, attestors: TrustedAttestors
    ) -> None:
        self._rows = rows
        self._reader = reader
        self._attestors = attestors
        self._skipped = 0
        self._warnings: list[str] = []

    async def restore(self, size: int) -> list[str]:
        """Restore the attestations of anchors up to ``size``.

        Returns a warning for each that was not restored. Raises RestoreRefused for an object
        that is not a signature line.
        """
        await self._tokens(size)
        await self._cosignatures(size)
        if self._skipped > WARNINGS_MAX:
            self._warnings.append(f"{self._skipped - WARNINGS_MAX} more were not restored")
        return self._warnings

    async def _tokens(self, size: int) -> None:
        rows = []
        async for one in self._reader.tokens():
            if one.size <= size and (stated := await self._stated_time(one)) is not None:
                rows.append((one.size, to_datetime(one.added_us), stated, one.token))
            if len(rows) == AT_ONCE:
                await self._rows.add_tokens(rows)
                rows = []
        await self._rows.add_tokens(rows)

    async def _stated_time(self, one: ArchivedToken) -> datetime | None:
        """Return the time that a token states for its anchor; None for another anchor's token."""
        note = await self._rows.note(one.size)
        if note is None:
            self._skip(one.key, f"there is no anchor of size {one.size}")
            return None
        try:
            if self._attestors.authorities is not None:
                return verify(one.token, note, self._attestors.authorities).gen_time
            return stated_time(one.token, note)
        except TimestampError as error:
            self._skip(one.key, str(error))
            return None

    async def _cosignatures(self, size: int) -> None:
        rows = []
        async for one in self._reader.cosignatures():
            if one.size <= size and (witness := await self._witness(one)) is not None:
                rows.append((one.size, witness, to_datetime(one.added_us), one.line))
            if len(rows) == AT_ONCE:
                await self._rows.add_cosignatures(rows)
                rows = []
        await self._rows.add_cosignatures(rows)

    async def _witness(self, one: ArchivedCosignature) -> str | None:
        """Return the name and key id of the signing witness; None for a wrong cosignature."""
        key = self._reader.key(one.key)
        try:
            signatures = parse_signatures(one.line)
        except (FormatError, ValueError) as error:
            raise RestoreRefused(f"{key} is not a signature line: {error}") from error
        if len(signatures) != 1:
            raise RestoreRefused(f"{key} has {len(signatures)} signature lines instead of one")
        note = await self._rows.note(one.size)
        if note is None:
            self._skip(one.key, f"there is no anchor of size {one.size}")
            return None
        if self._attestors.policy is not None:
            try:
                self._attestors.policy.cosigned_by(parse_note(note), one.line)
            except NoteError as error:
                self._skip(one.key, str(error))
                return None
        (signature,) = signatures
        return f"{signature.name}+{signature.key_id.hex()}"

    def _skip(self, key: str, reason: str) -> None:
        self._skipped += 1
        if self._skipped <= WARNINGS_MAX:
            self._warnings.append(f"{self._reader.key(key)} was not restored: {reason}")
