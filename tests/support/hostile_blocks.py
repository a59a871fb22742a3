"""Blocks that an owner of the database could plant: their checksums are right, their sizes lie.

They are made without the product's code and without inflating anything, so that they can claim
any size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Final, TypeAlias

from ledger.chain import StoredEntry
from tests.support.block_format import Row, checked, decode, encode, frames_at
from tests.support.changes import Value, flipped

Hostility: TypeAlias = Callable[[Row], list[Row]]
"""What an owner does to a block; it returns the blocks that replace it."""
RLE_BYTES: Final = 128 << 10
"""Bytes of content of the largest block of a zstd frame; repeated bytes need four of them."""
_BOMB: Final = 512 << 20
_MOST: Final = 2**32 - 1
_SKIPPABLE: Final = bytes.fromhex("502a4d1800000000")
_MAGIC: Final = bytes.fromhex("28b52ffd")
_WINDOW: Final = bytes([17 << 3])
"""The descriptor of a window of 128 MiB."""


def bomb(content_bytes: int, claimed: int | None) -> bytes:
    """Return a stored frame of so many zeros, with its CRC-32.

    ``claimed`` is the size of its content by its header (RFC 8878); None: the header has none.
    """
    header = b"\0" + _WINDOW if claimed is None else b"\x80" + _WINDOW + struct.pack("<I", claimed)
    sizes = [RLE_BYTES] * (content_bytes // RLE_BYTES) + [content_bytes % RLE_BYTES]
    pieces = [_repeated(size, last=n == len(sizes) - 1) for n, size in enumerate(sizes)]
    return checked(_MAGIC + header + b"".join(pieces))


def _repeated(size: int, *, last: bool) -> bytes:
    return (size << 3 | 1 << 1 | last).to_bytes(3, "little") + b"\0"


def with_frame(row: Row, column: str, number: int, stored: bytes) -> Row:
    """Return a block with another stored frame in the place of one of ``leaves`` or ``payloads``."""
    ends = [*struct.unpack(f">{len(row.ends) // 4}I", row.ends[1:])]
    of_leaves, of_payloads = map(len, frames_at(row))
    last = len(ends) - of_payloads
    places = range(last - of_leaves, last) if column == "leaves" else range(last, len(ends))
    borders = [0, *(ends[place] for place in places)]
    data = getattr(row, column)
    frames = [data[start:end] for start, end in pairwise(borders)]
    frames[number] = stored
    for place, end in zip(places, accumulate(map(len, frames)), strict=True):
        ends[place] = end
    changed = row._replace(ends=packed_ends(ends))
    return changed._replace(**{column: b"".join(frames)})  # type: ignore[arg-type]


def packed_ends(ends: Sequence[int]) -> bytes:
    """Return the column ``ends`` with these numbers."""
    return b"\1" + struct.pack(f">{len(ends)}I", *ends)


def of_zeros(entry: StoredEntry, payload_bytes: int) -> Row:
    """Return the entry's own block, with a payload of so many zeros that takes few stored bytes."""
    row = encode([entry], raw=True)
    stored = bomb(payload_bytes, payload_bytes)
    record = len(entry.signature) + len(entry.leaf)
    return row._replace(
        raw_bytes=record + payload_bytes,
        ends=packed_ends([record, payload_bytes, record, len(stored)]),
        payloads=stored,
    )


def first_frame(column: str, stored: Callable[[int], bytes]) -> Hostility:
    """Replace a column's first stored frame by one that is made of the size of its content."""

    def changed(row: Row) -> list[Row]:
        frame = frames_at(row)[column == "payloads"][0]
        return [with_frame(row, column, 0, stored(frame.raw_size))]

    return changed


def _set(**columns: Value) -> Hostility:
    return lambda row: [row._replace(**columns)]  # type: ignore[arg-type]


def _bit(column: str, bit: int) -> Hostility:
    return lambda row: [row._replace(**{column: flipped(getattr(row, column), bit)})]  # type: ignore[arg-type]


def _ends(change: Callable[[list[int]], object]) -> Hostility:
    def changed(row: Row) -> list[Row]:
        ends = [*struct.unpack(f">{len(row.ends) // 4}I", row.ends[1:])]
        change(ends)
        return [row._replace(ends=packed_ends(ends))]

    return changed


def _large_zeros(row: Row) -> list[Row]:
    """Six entries of 64 MiB each, which take a few kilobytes, and the others as they were."""
    entries = decode(row)
    return [*(of_zeros(entry, 64 << 20) for entry in entries[:6]), encode(entries[6:])]


HOSTILE: Final[dict[str, Hostility]] = {
    "a bit of the leaves": _bit("leaves", 12_345),
    "a bit of the payloads": _bit("payloads", 12_345),
    "a bit of the ends": _bit("ends", 1_234),
    "a bit of their version": _bit("ends", 1),
    "leaves cut": lambda row: [row._replace(leaves=row.leaves[:-1])],
    "payloads emptied": _set(payloads=b""),
    "ends emptied": _set(ends=b""),
    "ends of 5 kB": _set(ends=b"\1" * 5_001),
    "tags emptied": _set(tags=b""),
    "leaves that inflate to 64 MiB": first_frame("leaves", lambda size: bomb(64 << 20, size)),
    "payloads that inflate to 512 MiB": first_frame("payloads", lambda size: bomb(_BOMB, size)),
    "payloads that say that they do": first_frame("payloads", lambda _: bomb(_BOMB, _BOMB)),
    "payloads that do not say it": first_frame("payloads", lambda _: bomb(_BOMB, None)),
    "a frame that is nothing but its checksum": first_frame("payloads", lambda _: checked(b"")),
    "a skippable frame": first_frame("payloads", lambda _: checked(_SKIPPABLE)),
    "payloads of 4 GB each": _ends(lambda ends: ends.__setitem__(slice(256, 512), [_MOST] * 256)),
    "one payload of 4 GB": _ends(lambda ends: ends.__setitem__(511, _MOST)),
    "an end before its start": _ends(lambda ends: ends.__setitem__(300, 0)),
    "a frame that ends beyond all": _ends(lambda ends: ends.__setitem__(-1, _MOST)),
    "a thousand million entries": _set(first_seq=-(10**9)),
    "all entries": _set(first_seq=-(2**63)),
    "six payloads of 64 MiB of zeros": _large_zeros,
}
"""What an owner does to a block of 256 entries with payloads of 2 kB."""
