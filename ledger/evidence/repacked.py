"""Explains files that were a bundle or contain one: packed again, or packed into an archive."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_ReadAt = Callable[[int, int], bytes]

PACKED_ANEW: Final = (
    "this is not the file that a server made: a bundle was unpacked and packed again (archive "
    "programs and some mail gateways do that), or its file was changed. Ask whoever gave it to you "
    "for the original file, by a way that does not open it"
)
HOLDS_A_ZIP: Final = "this zip is no evidence bundle, and {name} is in it: unpack this file, and verify that one as it is"
ARCHIVE: Final = (
    "this is {kind}, not an evidence bundle: unpack it, and verify the .zip that is in it as it is"
)
DIRECTORY_BYTES_MAX: Final = 1 << 26
_TAIL_BYTES: Final = 22 + 0xFFFF
"""An end record with the longest comment (PKWARE APPNOTE 6.3.9, section 4.3.16)."""
_END: Final = b"PK\x05\x06"
_NAME: Final = re.compile(rb"PK\x01\x02.{24}(.)(.).{16}", re.DOTALL)
_OF_A_BUNDLE: Final = (b"manifest.json", b"log-keys.json", b"STATEMENT.txt")
_ARCHIVES: Final = {
    b"\x1f\x8b": "a gzip file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
}
_TAR_AT, _TAR = 257, b"ustar"
_TAR_BYTES: Final = _TAR_AT + len(_TAR)


def explain(read_at: _ReadAt, size: int) -> str | None:
    """Explain why a bundle can't be read, and what to do; None for an unknown cause.

    ``read_at(offset, size)`` reads bytes of the file. Nothing is unpacked.
    """
    head = read_at(0, min(size, 8))
    for magic, kind in _ARCHIVES.items():
        if head.startswith(magic):
            return ARCHIVE.format(kind=kind)
    if read_at(0, min(size, _TAR_BYTES))[_TAR_AT:] == _TAR:
        return ARCHIVE.format(kind="a tar archive")
    names = _names(read_at, size)
    last = {name.rsplit(b"/", 1)[-1] for name in names}
    if last.issuperset(_OF_A_BUNDLE):
        return PACKED_ANEW
    inner = sorted(name for name in last if name.lower().endswith(b".zip"))
    if inner:
        return HOLDS_A_ZIP.format(name=inner[0].decode("utf-8", "backslashreplace"))
    return None


def _names(read_at: _ReadAt, size: int) -> list[bytes]:
    """Return the names that can be found in a zip's directory, wherever it is in the file."""
    tail_bytes = min(size, _TAIL_BYTES)
    tail = read_at(size - tail_bytes, tail_bytes)
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22:
        return []
    directory_bytes = int.from_bytes(tail[at + 12 : at + 16], "little")
    start = size - tail_bytes + at - directory_bytes
    if start < 0 or directory_bytes > DIRECTORY_BYTES_MAX:
        return []
    directory = read_at(start, directory_bytes)
    return [
        directory[found.end() : found.end() + found[1][0] + (found[2][0] << 8)]
        for found in _NAME.finditer(directory)
    ]
