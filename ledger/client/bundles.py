"""Saves evidence bundles: the file appears whole or not at all."""

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
"""The most bytes of a bundle; a longer answer is not one."""
_END: Final = b"PK\x05\x06"
_END_BYTES: Final = 22
"""The size of a zip's end record without a comment (PKWARE APPNOTE 6.3.9, section 4.3.16)."""

Place: TypeAlias = str | os.PathLike[str]


class EvidenceBundle:
    """A requested bundle; saving it makes it and records its disclosures in the trail."""

    def __init__(self, save: Callable[[Path], None]) -> None:
        self._save = save

    def save(self, path: Place) -> Path:
        """Stream the bundle into a file and return its path.

        The file appears when it is whole and replaces an existing one. Raises OSError where it
        can't be written. The bundle is not verified: use ``quire-verify``.
        """
        self._save(Path(path))
        return Path(path)


class AsyncEvidenceBundle:
    """A requested bundle, for asyncio; see ``EvidenceBundle``."""

    def __init__(self, save: Callable[[Path], Awaitable[None]]) -> None:
        self._save = save

    async def save(self, path: Place) -> Path:
        """Stream the bundle into a file and return its path, as ``EvidenceBundle.save`` does."""
        await self._save(Path(path))
        return Path(path)


class PartFile:
    """The file of an incomplete bundle, in the folder of its path under a temporary name.

    Leaving the context without :meth:`finish` removes it.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(
                EISDIR, "a bundle is saved as a file, and this is a directory", path
            )
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
        """Write the next bytes. Raises ProtocolError beyond BUNDLE_BYTES_MAX."""
        self._size += len(data)
        if self._size > BUNDLE_BYTES_MAX:
            raise ProtocolError(
                "the server sent more bytes than a bundle can have; please report this"
            )
        self._end = (self._end + data)[-_END_BYTES:]
        self._file.write(data)

    def finish(self) -> None:
        """Sync the file and move it to its path. Raises ProtocolError where its end is missing."""
        if len(self._end) < _END_BYTES or not self._end.startswith(_END):
            raise ProtocolError(
                "the server sent an incomplete bundle: its end is missing. Nothing was saved; "
                "request it again"
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        # A crash here leaves the file under its temporary name, and any earlier bundle in place.
        self._part.replace(self._path)
