"""The block of docs/format.md, read and written by other code than the product's.

Tests tamper with blocks through this module, so a bug of the product is not in both. It also
writes what the product never writes: values of any size, and entries that break the rules.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import accumulate, islice
from typing import Final, NamedTuple
from zlib import crc32

import zstandard

from ledger.chain import StoredEntry

SIGNATURE_BYTES: Final = 32
MAX_ENTRIES: Final = 256
MAX_BYTES: Final = 4_194_304
"""Raw bytes of a block of several entries at most."""
MAX_RECORD_BYTES: Final = 65_567
MAX_PAYLOAD_BYTES: Final = 67_109_888
FRAME_ENTRIES: Final = 32
FRAME_BYTES: Final = 65_536
LEVEL: Final = 3
"""Another level than the product's: every zstd frame of the right content is right."""
DICTIONARY: Final = (
    b'{"amount":,"count":,"created_at":"2026-","currency":"EUR","description":"","email":"@","erro'
    b'r":null,"id":"","ip":"10.0.0.","message":"","method":"POST","name":"","path":"/v1/","reason"'
    b':"","request_id":"","result":"","session":"","source":"","status":200,"target":"","tenant":"'
    b'","type":"","url":"https://","user":"","user_agent":"Mozilla/5.0 (","value":true,false}{"act'
    b'ion":"read","action":"write","action":"create","action":"update","action":"delete","action":'
    b'"approve","action":"login","action":null,"actor":null,"actor":"user:","actor":"subject:","an'
    b'chored_at":"2026-11-27T12:00:00.000000Z","data_classification":null,"data_classification":"c'
    b'onfidential","event_type":"user.login","key":"k1","key":"","legal_basis":null,"legal_basis":'
    b'"contract","org":"","outcome":null,"outcome":"failure","outcome":"success","payload":{"blake'
    b'3":"","seal":"aes-256-gcm:","seal":null,"size":254},"previous_hash":"0123456789abcdef","seq"'
    b':,"subject":null,"subject":"subject:","timestamp":null,"timestamp":"2026-11-27T12:00:00Z","v'
    b'":1}'
)
"""As printed in docs/format.md."""

_PREVIOUS: Final = re.compile(rb'"previous_hash":"([0-9a-f]{64})"')


class Row(NamedTuple):
    """A row of the table of blocks, columns in its order."""

    org_id: int
    last_seq: int
    anchored_at: datetime
    first_seq: int
    last_hash: bytes
    raw_bytes: int
    tags: bytes
    ends: bytes
    leaves: bytes
    payloads: bytes

    @property
    def has_possible_borders(self) -> bool:
        """Whether the table's constraint admits its seqs."""
        return self.first_seq >> 8 == self.last_seq >> 8 and self.first_seq <= self.last_seq


def named_hash(leaf: bytes) -> bytes:
    """Return the hash of the entry before, as a leaf names it; b"" if it names none."""
    found = _PREVIOUS.search(leaf)
    return bytes.fromhex(found[1].decode()) if found else b""


def encode(entries: Sequence[StoredEntry], *, raw: bool = False) -> Row:
    """Return the block of these entries, of one org and time; ``raw``: compress no frame.

    Of the stored hashes only the last is written: the others are what the next leaf names.
    """
    first, last = entries[0], entries[-1]
    assert [entry.seq for entry in entries] == list(range(first.seq, last.seq + 1))
    assert len({(entry.org_id, entry.anchored_at) for entry in entries}) == 1
    records = [entry.signature + entry.leaf for entry in entries]
    payloads = [entry.payload for entry in entries]
    sides = [_stored_frames(pieces, raw=raw) for pieces in (records, payloads)]
    ends = [end for pieces in (records, payloads, *sides) for end in accumulate(map(len, pieces))]
    return Row(
        first.org_id,
        last.seq,
        last.anchored_at,
        first.seq,
        last.entry_hash,
        sum(map(len, records + payloads)),
        b"".join(
            tag.to_bytes(3, "big")
            for entry in entries
            for tag in (entry.actor_tag, entry.subject_tag)
        ),
        b"\1" + b"".join(struct.pack(">I", end) for end in ends),
        b"".join(sides[0]),
        b"".join(sides[1]),
    )


def decode(row: Row) -> list[StoredEntry]:
    """Return the entries of a block. Raises AssertionError, or zstd's error, for a damaged one."""
    count = row.last_seq - row.first_seq + 1
    assert row.ends[0] == 1
    assert len(row.tags) == 6 * count, "the tags are not those of its entries"
    numbers = iter(struct.unpack(f">{len(row.ends) // 4}I", row.ends[1:]))
    sizes = [_sizes(list(islice(numbers, count))) for _ in range(2)]
    records, payloads = (
        list(_pieces(column, of_pieces, _sizes(list(islice(numbers, len(_frames(of_pieces)))))))
        for column, of_pieces in zip((row.leaves, row.payloads), sizes, strict=True)
    )
    assert next(numbers, None) is None, "there are more ends than pieces and frames"
    tags = [int.from_bytes(row.tags[at : at + 3], "big") for at in range(0, 6 * count, 3)]
    leaves = [record[SIGNATURE_BYTES:] for record in records]
    hashes = [*map(named_hash, leaves[1:]), row.last_hash]
    return [
        StoredEntry(
            row.org_id,
            row.first_seq + place,
            row.anchored_at,
            tags[2 * place],
            tags[2 * place + 1],
            hashes[place],
            records[place][:SIGNATURE_BYTES],
            leaves[place],
            payloads[place],
        )
        for place in range(count)
    ]


class FrameAt(NamedTuple):
    """A frame's entries, by position, its place in the column, and that of its content in all."""

    first: int
    last: int
    start: int
    end: int
    raw_start: int
    raw_size: int


def piece_ends(row: Row) -> tuple[list[int], list[int]]:
    """Return the ends of a block's records and payloads in the raw bytes of all."""
    count = row.last_seq - row.first_seq + 1
    ends = struct.unpack(f">{len(row.ends) // 4}I", row.ends[1:])
    return [*ends[:count]], [*ends[count : 2 * count]]


def frames_at(row: Row) -> tuple[list[FrameAt], list[FrameAt]]:
    """Return the frames of ``leaves`` and of ``payloads`` of a block."""
    count = row.last_seq - row.first_seq + 1
    stored = iter(struct.unpack(f">{len(row.ends) // 4}I", row.ends[1:])[2 * count :])
    both: list[list[FrameAt]] = []
    for ends in piece_ends(row):
        found: list[FrameAt] = []
        position = start = raw_start = 0
        for sizes in _frames(_sizes(ends)):
            end, last, raw_size = next(stored), position + len(sizes) - 1, sum(sizes)
            found.append(FrameAt(position, last, start, end, raw_start, raw_size))
            position, start, raw_start = last + 1, end, raw_start + raw_size
        both.append(found)
    return both[0], both[1]


def is_raw(row: Row) -> bool:
    """Whether no frame of a block is compressed."""
    return len(row.leaves) + len(row.payloads) == sum(
        len(entry.signature + entry.leaf + entry.payload) for entry in decode(row)
    )


def compressed(content: bytes) -> bytes:
    """Return a stored frame of the content, even if that is longer."""
    return checked(_codecs()[0].compress(content))


def checked(frame: bytes) -> bytes:
    """Return any bytes in the place of a zstd frame, with their CRC-32."""
    return frame + struct.pack(">I", crc32(frame))


@cache
def _codecs() -> tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor]:
    known = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return (
        zstandard.ZstdCompressor(level=LEVEL, dict_data=known, write_dict_id=False),
        zstandard.ZstdDecompressor(dict_data=known),
    )


def _frames(sizes: Sequence[int]) -> list[list[int]]:
    """Return the sizes of the pieces in each frame."""
    frames: list[list[int]] = []
    for size in sizes:
        if frames and len(frames[-1]) < FRAME_ENTRIES and sum(frames[-1]) + size <= FRAME_BYTES:
            frames[-1].append(size)
        else:
            frames.append([size])
    return frames


def _stored_frames(pieces: Sequence[bytes], *, raw: bool) -> list[bytes]:
    left = iter(pieces)
    contents = [b"".join(islice(left, len(of_frame))) for of_frame in _frames([*map(len, pieces)])]
    return [content if raw else min(content, compressed(content), key=len) for content in contents]


def _pieces(column: bytes, sizes: Sequence[int], stored: Sequence[int]) -> Iterator[bytes]:
    start = 0
    for of_frame, size in zip(_frames(sizes), stored, strict=True):
        content = column[start : start + size]
        start += size
        if len(content) != sum(of_frame):
            frame, crc = content[:-4], content[-4:]
            assert crc == struct.pack(">I", crc32(frame)), "a frame's CRC-32 is wrong"
            content = _codecs()[1].decompress(frame, max_output_size=sum(of_frame))
        assert len(content) == sum(of_frame), "a frame has another size than its pieces"
        at = 0
        for length in of_frame:
            yield content[at : at + length]
            at += length
    assert start == len(column), "the column is longer than its frames"


def _sizes(ends: Sequence[int]) -> list[int]:
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
