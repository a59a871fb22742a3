"""Parses a zip that may be hostile; takes only the one form that a bundle has.

The file is read from its end, within bounds that are checked before anything is allocated.
Members must follow one another from byte 0 to the central directory, and every header is
compared whole with the one that the writer writes. So nothing can be hidden before, between or
after the members, no two can overlap or share a name, and none can be a link or compressed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, NamedTuple

from ledger.errors import EvidenceError
from ledger.evidence import zip_layout
from ledger.evidence.format import MANIFEST_BYTES_MAX, MEMBER_BYTES_MAX, MEMBERS_MAX
from ledger.evidence.members import MANIFEST
from ledger.evidence.repacked import explain
from ledger.evidence.zip_layout import ZipDirectory

NAME_BYTES_MAX: Final = 64
_NAME: Final = re.compile(rb"[A-Za-z][A-Za-z-]*(?:/[0-9]+)?(?:\.[0-9]+)?\.[a-z-]+")
_HEADER_MAX: Final = zip_layout.CENTRAL_BYTES + NAME_BYTES_MAX + zip_layout.EXTRA64_BYTES


_ReadAt = Callable[[int, int], bytes]


class StoredMember(NamedTuple):
    """A member as the central directory describes it; its local header is at ``offset``."""

    name: str
    offset: int
    size: int
    crc: int


class BundleFile:
    """The members of a bundle's file, in order. Raises EvidenceError for any other file.

    ``file`` is seekable; the caller closes it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = self._at = file.seek(0, 2)
        try:
            directory = _find_directory(self._read_at, self.size)
            found = _members(self._read_at(directory.offset, directory.size), directory)
            self.members = tuple(found)
        except EvidenceError as error:
            explained = explain(self._read_at, self.size)
            if explained is None:
                raise
            raise EvidenceError(f"{explained} ({error})") from None

    def read(self, member: StoredMember) -> bytes:
        """Read a member. Raises EvidenceError where its header differs from the directory's."""
        header = zip_layout.local_header(member.name.encode(), member.crc, member.size)
        data = self._read_at(member.offset, len(header) + member.size)
        if not data.startswith(header):
            raise EvidenceError(
                f"the header before {member.name} is not what the zip's directory says"
            )
        return data[len(header) :]

    def _read_at(self, offset: int, size: int) -> bytes:
        if self._at != offset:  # kept here, as file.tell() would cost as much as a read
            self._file.seek(offset)
        data = self._file.read(size)
        self._at = offset + len(data)
        if len(data) != size:
            raise EvidenceError("the file ends too early: it was cut, or it changed meanwhile")
        return data


def _find_directory(read_at: _ReadAt, size: int) -> ZipDirectory:
    """Parse the end of the file, which must be exactly the one that the writer writes."""
    if size < zip_layout.END_BYTES:
        raise EvidenceError(f"{size} bytes are no zip, and no evidence bundle")
    tail_bytes = min(size, zip_layout.END_BYTES + zip_layout.END64_BYTES)
    tail = read_at(size - tail_bytes, tail_bytes)
    directory = zip_layout.parse_end(tail)
    if directory is None:
        raise EvidenceError(
            "the file does not end as an evidence bundle does: it was cut, something follows it, "
            "or it is another kind of file"
        )
    if directory.offset + directory.size + len(zip_layout.end(directory)) != size:
        raise EvidenceError("the zip's directory does not lie where its end says")
    if not 0 < directory.members <= MEMBERS_MAX + 1:
        raise EvidenceError(
            f"the zip says it has {directory.members} members; a bundle has 1 to {MEMBERS_MAX + 1}"
        )
    if directory.size > directory.members * _HEADER_MAX:
        raise EvidenceError("the zip's directory is larger than its members' names can make it")
    return directory


def _members(data: bytes, directory: ZipDirectory) -> Iterator[StoredMember]:
    """Yield the members of the central directory; each header must have its only valid form."""
    at = offset = 0
    seen: set[bytes] = set()
    for _ in range(directory.members):
        fields = zip_layout.parse_central(data, at)
        if fields is None:
            raise EvidenceError("the zip's directory ends inside a header")
        name, crc, size = fields
        shown = name[:NAME_BYTES_MAX].decode("ascii", "backslashreplace")
        if len(name) > NAME_BYTES_MAX or not _NAME.fullmatch(name):
            raise EvidenceError(f"no member of a bundle is named {shown!r}")
        header = zip_layout.central_header(name, crc, size, offset)
        if not data.startswith(header, at):
            raise EvidenceError(
                f"the zip's header of {shown} is not that of a stored, plain file in its place"
            )
        if name in seen:
            raise EvidenceError(f"{shown} stands in the zip twice")
        seen.add(name)
        _check_size(shown, size)
        yield StoredMember(shown, offset, size, crc)
        at += len(header)
        offset += zip_layout.LOCAL_BYTES + len(name) + size
    if at != len(data) or offset != directory.offset:
        raise EvidenceError("the zip holds bytes that belong to no member")


def _check_size(name: str, size: int) -> None:
    bound = MANIFEST_BYTES_MAX if name == MANIFEST else MEMBER_BYTES_MAX
    if size > bound:
        raise EvidenceError(f"{name} has {size} bytes; at most {bound} are read")
