"""Evidence bundles on their way to disk: whole in their place, or not there at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable
from errno import EISDIR
from pathlib import Path
from typing import BinaryIO, Final, Self, TypeAlias

from ledger.client.errors import ProtocolError

ZIP: Final = "application/zip"
BUNDLE_BYTES_MAX: Final = 1 << 40
"""A server that sends more sends no bundle."""
_END: Final = b"PK\x05\x06"
_END_BYTES: Final = 22
"""What a zip without a comment ends with (PKWARE APPNOTE 6.3.9, section 4.3.16)."""

Place: TypeAlias = str | os.PathLike[str]


class EvidenceBundle:
    """A bundle that was asked for; it is made, and what it discloses recorded, when it is saved."""

    def __init__(self, save: Callable[[Path], None]) -> None:
        self._save = save

    def save(self, path: Place) -> Path:
        """Stream the bundle into a file and return its path.

        The file appears when it is whole, in place of one that is there. Raises OSError
        where it can't be written. Nothing of it is verified: that is what
        ``quire-verify`` is for.
        """
        self._save(Path(path))
        return Path(path)


class AsyncEvidenceBundle:
    """The same for asyncio."""

    def __init__(self, save: Callable[[Path], Awaitable[None]]) -> None:
        self._save = save

    async def save(self, path: Place) -> Path:
        """Stream the bundle into a file and return its path, as ``EvidenceBundle.save`` does."""
        await self._save(Path(path))
        return Path(path)


class PartFile:
    """The file of a bundle that is not whole yet: beside its place, under a name of its own.

    Leaving the context without :meth:`finish` removes it.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, "a bundle is a file, and this is a directory", path)
        self._path = path
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        self._size = 0
        self._end = b""

    def __enter__(self) -> Self:
        self._file: BinaryIO = self._part.open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        with contextlib.suppress(FileNotFoundError):  # it was finished
            self._part.unlink()

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises ProtocolError for more than any bundle has."""
        self._size += len(data)
        if self._size > BUNDLE_BYTES_MAX:
            raise ProtocolError("the server sends more than any bundle has; please report this")
        self._end = (self._end + data)[-_END_BYTES:]
        self._file.write(data)

    def finish(self) -> None:
        """Put the file in its place, on disk. Raises ProtocolError where its end is missing."""
        if len(self._end) < _END_BYTES or not self._end.startswith(_END):
            raise ProtocolError(
                "what the server sent is no whole bundle: its end is missing. Nothing was saved; "
                "ask for it again"
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self._path)
