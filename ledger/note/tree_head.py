"""The text of a checkpoint: a log's tree head (C2SP tlog-checkpoint, "Note text").

Import it from ``ledger.checkpoint``, which also opens signed checkpoints. It is
defined here because cosigning needs it: a cosignature signs a checkpoint's
values, not any text.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Final

from ledger.errors import CheckpointError, NoteError
from ledger.note.signature import decode_base64

ROOT_BYTES: Final = 32
SIZE_MAX: Final = 2**63 - 1
"""Readers with signed 64-bit integers can't represent larger sizes."""
EXTENSIONS_MAX: Final = 64
ORIGIN_BYTES_MAX: Final = 255
"""Limit of the cosigned message of type 0x06 (C2SP tlog-cosignature)."""
_SIZE = re.compile(rb"0|[1-9][0-9]{0,18}")
_CONTROL = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A tree head: the log's origin, its size in leaves, its 32-byte RFC 6962 root.

    Extension lines are opaque; ML-DSA-44 signatures do not cover them. Raises
    CheckpointError for values that no checkpoint can hold.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_line(self.origin, "origin")
        if not 0 <= self.size <= SIZE_MAX:
            raise CheckpointError(f"a tree has 0 to 2^63-1 leaves, not {self.size}")
        if len(self.root) != ROOT_BYTES:
            raise CheckpointError(f"a root hash has {ROOT_BYTES} bytes, not {len(self.root)}")
        if len(self.extensions) > EXTENSIONS_MAX:
            raise CheckpointError(f"a checkpoint has at most {EXTENSIONS_MAX} extension lines")
        for extension in self.extensions:
            _check_line(extension, "extension line")

    def text(self) -> bytes:
        """Return the note text, with the newline at its end."""
        root = binascii.b2a_base64(self.root, newline=False).decode()
        return "\n".join((self.origin, str(self.size), root, *self.extensions, "")).encode()


def parse_checkpoint(text: bytes) -> TreeHead:
    """Parse a note text as a checkpoint. Raises CheckpointError for any other text."""
    *lines, rest = text.split(b"\n", EXTENSIONS_MAX + 4)
    if rest or len(lines) < 3:
        raise CheckpointError(
            "a checkpoint must have three lines, each ended by a newline: origin, size and root; "
            f"at most {EXTENSIONS_MAX} extension lines may follow"
        )
    origin, size, root, *extensions = lines
    if not _SIZE.fullmatch(size):
        raise CheckpointError("the second line of a checkpoint must be its size in decimal digits")
    try:
        return TreeHead(
            origin.decode(),
            int(size),
            decode_base64(root, "the root hash"),
            tuple(extension.decode() for extension in extensions),
        )
    except UnicodeDecodeError:
        raise CheckpointError("a checkpoint must be UTF-8") from None
    except NoteError as error:
        raise CheckpointError(str(error)) from None


def _check_line(line: str, name: str) -> None:
    if not line:
        raise CheckpointError(f"the {name} of a checkpoint must not be empty")
    if _CONTROL.search(line):
        raise CheckpointError(f"the {name} of a checkpoint holds a newline or control character")
    try:
        line.encode()
    except UnicodeEncodeError:
        raise CheckpointError(
            f"the {name} of a checkpoint holds half of a surrogate pair"
        ) from None
