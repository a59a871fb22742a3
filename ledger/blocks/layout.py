"""Where the entries of a block are in its frames, computed from its column ``ends`` alone.

``ends`` holds, big-endian: one byte :data:`VERSION`; for each entry the end of its record (its
signature and leaf) and the end of its payload, 32 bits each, in the raw bytes of all; then for
each frame of the records and for each frame of the payloads the end of the stored frame, 32 bits
each. The frames themselves follow from the entries' sizes: see :func:`frames_of`.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import sub
from typing import Final, NamedTuple

from ledger.entry import HASH_BYTES, MAX_LEAF_BYTES
from ledger.errors import QuireError

VERSION: Final = 1
BLOCK_BITS: Final = 8
"""A block ends at the latest where the seq's last 8 bits are all ones."""
BLOCK_ENTRIES: Final = 1 << BLOCK_BITS
BLOCK_BYTES: Final = 4 << 20
"""Raw bytes after which a block ends; an entry that is larger has a block to itself."""
FRAME_ENTRIES: Final = 32
FRAME_BYTES: Final = 64 << 10
"""Entries and raw bytes of a frame at most; an entry that is larger has a frame to itself."""
MAX_PAYLOAD_BYTES: Final = (64 << 20) + 1024
"""Largest size of a stored payload, including its seal."""
RECORD_BYTES: Final = HASH_BYTES + MAX_LEAF_BYTES


class BlockDamaged(QuireError):
    """A block, or a frame of it, can't be read; the message says why."""


class Frame(NamedTuple):
    """Some consecutive entries of a block and their bytes in a column.

    ``first`` and ``last``: positions of the entries in the block. ``start`` and ``size``: the
    place of the stored frame in the column. ``raw_start`` and ``raw_size``: of its content in the
    raw bytes of all frames.
    """

    first: int
    last: int
    start: int
    size: int
    raw_start: int
    raw_size: int


class Layout(NamedTuple):
    """The ends of the raw records and payloads of a block's entries, and its frames."""

    record_ends: Sequence[int]
    payload_ends: Sequence[int]
    record_frames: Sequence[Frame]
    payload_frames: Sequence[Frame]

    @property
    def raw_bytes(self) -> int:
        """The bytes of all records and payloads."""
        return self.record_ends[-1] + self.payload_ends[-1]


def frames_of(ends: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and last position of each frame of pieces with these raw ends.

    A frame takes the next piece while it has fewer than FRAME_ENTRIES and does not exceed
    FRAME_BYTES with it; it has at least one.
    """
    frames: list[tuple[int, int]] = []
    first, start, count = 0, 0, len(ends)
    while first < count:
        after = min(first + FRAME_ENTRIES, count)
        if ends[after - 1] - start > FRAME_BYTES:
            after = max(bisect_right(ends, start + FRAME_BYTES, first, after), first + 1)
        frames.append((first, after - 1))
        first, start = after, ends[after - 1]
    return frames


def pack_ends(
    record_ends: Sequence[int],
    payload_ends: Sequence[int],
    stored_records: Sequence[int],
    stored_payloads: Sequence[int],
) -> bytes:
    """Return the column ``ends``; the last two are the ends of the stored frames."""
    numbers = [*record_ends, *payload_ends, *stored_records, *stored_payloads]
    return struct.pack(f">B{len(numbers)}I", VERSION, *numbers)


def read_ends(ends: bytes, entries: int, needed: Sequence[int] | None = None) -> Layout:
    """Return the layout of a block with so many entries. Raises BlockDamaged.

    All sizes are bounded and consistent afterwards: no reader needs to check them again. With
    ``needed``, ascending positions, only the frames that hold them are checked and returned, at a
    fraction of the cost.
    """
    if entries == 1 and len(ends) == _ENDS_OF_ONE.size:
        only = _layout_of_one(ends)
        if only is not None:
            return only
    record_ends, payload_ends, stored = _numbers(ends, entries)
    if needed is None:
        _require_growing(record_ends, least=HASH_BYTES, what="record")
        if payload_ends != sorted(payload_ends):  # the fastest way to see that they grow
            _require_growing(payload_ends, least=0, what="payload")
    if entries > 1 and record_ends[-1] + payload_ends[-1] > BLOCK_BYTES:
        raise BlockDamaged(f"more than one entry in a block of over {BLOCK_BYTES} raw bytes")
    of_records, of_payloads = frames_of(record_ends), frames_of(payload_ends)
    if len(stored) != len(of_records) + len(of_payloads):
        raise BlockDamaged("the number of frames does not follow from the sizes of the entries")
    stored_records, stored_payloads = stored[: len(of_records)], stored[len(of_records) :]
    records = _placed(of_records, record_ends, stored_records, RECORD_BYTES, needed)
    payloads = _placed(of_payloads, payload_ends, stored_payloads, MAX_PAYLOAD_BYTES, needed)
    if needed is not None:
        _require_growing_in(records, record_ends, least=HASH_BYTES, what="record")
        _require_growing_in(payloads, payload_ends, least=0, what="payload")
    return Layout(record_ends, payload_ends, records, payloads)


def _numbers(ends: bytes, entries: int) -> tuple[list[int], list[int], list[int]]:
    """Return the ends of records, of payloads and of stored frames. Raises BlockDamaged."""
    if not 1 <= entries <= BLOCK_ENTRIES:
        raise BlockDamaged(f"a block has 1 to {BLOCK_ENTRIES} entries, not {entries}")
    if ends[:1] != bytes([VERSION]) or len(ends) % 4 != 1:
        raise BlockDamaged(f"the ends are not of version {VERSION} of the block")
    numbers = _big_endian(ends[1:])
    record_ends, payload_ends = numbers[:entries], numbers[entries : 2 * entries]
    if len(payload_ends) != entries:
        raise BlockDamaged("the ends of some entries are missing")
    return record_ends, payload_ends, numbers[2 * entries :]


_ENDS_OF_ONE: Final = struct.Struct(">B4I")


def _layout_of_one(ends: bytes) -> Layout | None:
    """Return the layout of a block of one entry, at less cost; None if it is damaged."""
    version, record, payload, stored_record, stored_payload = _ENDS_OF_ONE.unpack(ends)
    if (
        version != VERSION
        or not HASH_BYTES <= record <= RECORD_BYTES
        or payload > MAX_PAYLOAD_BYTES
        or stored_record > record
        or stored_payload > payload
    ):
        return None
    return Layout(
        (record,),
        (payload,),
        (Frame(0, 0, 0, stored_record, 0, record),),
        (Frame(0, 0, 0, stored_payload, 0, payload),),
    )


def _big_endian(data: bytes) -> list[int]:
    """Return the 32-bit numbers of these bytes, in a tenth of the time of struct."""
    numbers = array("I", data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tolist()


def _require_growing_in(
    frames: Sequence[Frame], ends: Sequence[int], *, least: int, what: str
) -> None:
    for frame in frames:
        of_frame = ends[frame.first : frame.last + 1]
        _require_growing(of_frame, frame.first, frame.raw_start, least=least, what=what)


def _require_growing(
    ends: Sequence[int], first: int = 0, start: int = 0, *, least: int, what: str
) -> None:
    """Require of the ends of pieces, of which the ``first`` begins at ``start``, that they grow."""
    if min(map(sub, ends, (start, *ends))) < least:
        sizes = map(sub, ends, (start, *ends))
        position = next(at for at, size in enumerate(sizes, first) if size < least)
        raise BlockDamaged(f"the {what} of its entry {position} has an impossible size")


def _placed(
    frames: Sequence[tuple[int, int]],
    ends: Sequence[int],
    stored: Sequence[int],
    most: int,
    needed: Sequence[int] | None,
) -> list[Frame]:
    """Return the needed frames with their places. Raises BlockDamaged for an impossible size.

    ``most``: the bytes of an entry. One that has more than FRAME_BYTES is alone in its frame.
    """
    placed: list[Frame] = []
    start = 0
    for (first, last), stored_end in zip(frames, stored, strict=True):
        if needed is None or _is_any_in(needed, first, last):
            raw_start = ends[first - 1] if first else 0
            size, raw_size = stored_end - start, ends[last] - raw_start
            if not 0 <= size <= raw_size <= most:
                raise BlockDamaged(
                    f"the frame of its entries {first} to {last} has an impossible size"
                )
            placed.append(Frame(first, last, start, size, raw_start, raw_size))
        start = stored_end
    return placed


def _is_any_in(positions: Sequence[int], first: int, last: int) -> bool:
    at = bisect_left(positions, first)
    return at < len(positions) and positions[at] <= last
