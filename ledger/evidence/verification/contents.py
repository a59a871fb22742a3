"""Reads a bundle's members one after another and compares each with the manifest."""

from __future__ import annotations

import zlib
from hashlib import sha256
from typing import BinaryIO

from blake3 import blake3

from ledger.errors import EvidenceError
from ledger.evidence import members
from ledger.evidence.format import Manifest, decode, read_manifest
from ledger.evidence.reader import BundleFile
from ledger.evidence.verdict import Findings


class Contents:
    """Takes members in the order of the format. Raises EvidenceError where another one is next.

    A member whose bytes differ from the manifest is a finding, not an error: the other checks
    of these bytes are still made.
    """

    def __init__(self, file: BinaryIO, findings: Findings) -> None:
        self._file = BundleFile(file)
        self._findings = findings
        self._next = 0
        last = self._file.members[-1]
        if last.name != members.MANIFEST:
            raise EvidenceError(f"the last member is {last.name}, not {members.MANIFEST}")
        data = self._file.read(last)
        self._check_crc(last.name, data, last.crc)
        self.manifest: Manifest = decode(read_manifest, data, members.MANIFEST)
        self._stored = self._file.members[:-1]
        self._listed = self.manifest.members
        if [member.name for member in self._listed] != [member.name for member in self._stored]:
            raise EvidenceError("the zip does not have the members that its manifest lists")

    def peek(self) -> str:
        """Return the name of the next member, "" at the end."""
        return self._stored[self._next].name if self._next < len(self._stored) else ""

    def take(self, name: str) -> bytes:
        """Read the next member, which must have this name."""
        if self.peek() != name:
            found = self.peek() or "the manifest"
            raise EvidenceError(f"{name} should be the next member of the bundle, not {found}")
        return self.take_next()

    def take_next(self) -> bytes:
        """Read the next member, whatever its name is."""
        stored, listed = self._stored[self._next], self._listed[self._next]
        self._next += 1
        data = self._file.read(stored)
        if (
            len(data) != listed.size
            or sha256(data).hexdigest() != listed.sha256
            or blake3(data).hexdigest() != listed.blake3
        ):
            self._findings.fails("hashes", f"{stored.name} is not what the manifest says")
        self._check_crc(stored.name, data, stored.crc)
        return data

    def finish(self) -> None:
        """Raise EvidenceError where members are left."""
        if self.peek():
            raise EvidenceError(f"{self.peek()} has no place in the bundle where it stands")

    def _check_crc(self, name: str, data: bytes, crc: int) -> None:
        if zlib.crc32(data) != crc:
            self._findings.fails("hashes", f"{name} does not have the CRC-32 of the zip")
