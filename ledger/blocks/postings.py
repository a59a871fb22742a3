"""The search index: which entries of a stretch have which tags, in rows that can't be forged.

A run is RUN_ENTRIES entries, in one row. A stretch is STRETCH_ENTRIES entries, in one row for each
of BUCKETS values of a tag's first byte, which exists even if it is empty. A tag with more than
FREQUENT hits in a stretch has a row of its own, which the row of its bucket names: so a missing row
always shows. A hit is a tag, one bit for the role and the offset of the entry; hits are sorted,
big-endian, in the fewest bytes:

- run: 5 bytes, tag and place;
- bucket: the number of frequent tags and their last two bytes, 2 bytes each; then for each hit of
  the other tags 4 bytes, a zero bit, the tag's last 16 bits and the place;
- frequent tag: 2 bytes, the place.

A place is 15 bits: the role (0 actor, 1 subject) and 14 bits of offset. A row is final: a trail is
append-only. Its MAC names the stored hash of the last entry, and so all entries up to it: a row of
other entries, which stood at the same seqs before, is not authentic.
"""

from __future__ import annotations

import hmac
import struct
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

from ledger.blocks.block import TAG_BYTES
from ledger.blocks.selecting import PAIR_BYTES
from ledger.entry import HASH_BYTES
from ledger.errors import QuireError

RUN_BITS: Final = 10
RUN_ENTRIES: Final = 1 << RUN_BITS
STRETCH_BITS: Final = 14
STRETCH_ENTRIES: Final = 1 << STRETCH_BITS
RUNS_IN_STRETCH: Final = STRETCH_ENTRIES // RUN_ENTRIES
BUCKETS: Final = 256
FREQUENT: Final = 512
"""Hits of one tag in a stretch; a tag with more has a row of its own."""
RUN_LEVEL: Final = 0
STRETCH_LEVEL: Final = 1
ACTOR: Final = 0
SUBJECT: Final = 1

_PLACE_BITS: Final = STRETCH_BITS + 1
_LOW_BITS: Final = 16
_LOW: Final = (1 << _LOW_BITS) - 1
_RUN_WIDTH, _BUCKET_WIDTH, _TAG_WIDTH = 5, 4, 2
_PLACE_MASK: Final = (1 << _PLACE_BITS) - 1
_BUCKET_MASK: Final = (1 << _LOW_BITS + _PLACE_BITS) - 1
_MOST_FREQUENT: Final = 2 * STRETCH_ENTRIES // (FREQUENT + 1)
MAX_POSTINGS_BYTES: Final = 2 + 2 * _MOST_FREQUENT + _BUCKET_WIDTH * 2 * STRETCH_ENTRIES
"""No row of the index has longer postings."""
_MAC_DOMAIN: Final = b"quire search index 1\0"
_MAC_HEADER: Final = struct.Struct(">QBQI")


class IndexDamaged(QuireError):
    """A row of the search index is missing, forged, or not of its form."""


class Seal(NamedTuple):
    """What authenticates a row: a secret key, and the stored hash of its last entry."""

    key: bytes
    end_hash: bytes


class IndexRow(NamedTuple):
    """One row; ``stretch`` is the number of the run or stretch.

    ``bucket``: 0 for a run; the tag's first byte; or BUCKETS + the tag for a frequent tag.
    """

    org_id: int
    level: int
    stretch: int
    bucket: int
    postings: bytes
    mac: bytes


def run_row(org_id: int, run: int, tags: bytes, seal: Seal) -> IndexRow:
    """Return the row of a run, from the tags of its entries; the tag 0 is none."""
    hits = _hits(tags)
    words = struct.pack(f">{len(hits)}Q", *hits)
    postings = bytearray(_RUN_WIDTH * len(hits))
    for byte in range(_RUN_WIDTH):  # the last 5 of each 8
        postings[byte::_RUN_WIDTH] = words[8 - _RUN_WIDTH + byte :: 8]
    return _authentic(org_id, RUN_LEVEL, run, 0, bytes(postings), seal)


def stretch_rows(org_id: int, stretch: int, tags: bytes, seal: Seal) -> list[IndexRow]:
    """Return the rows of a stretch: one for each bucket, then one for each frequent tag."""
    hits = _hits(tags)
    frequent = _frequent_tags(hits)
    contents = {bucket: _bucket(hits, bucket, frequent) for bucket in range(BUCKETS)}
    for tag, places in frequent.items():
        contents[BUCKETS + tag] = struct.pack(
            f">{len(places)}H", *(hits[at] & _PLACE_MASK for at in places)
        )
    return [
        _authentic(org_id, STRETCH_LEVEL, stretch, bucket, postings, seal)
        for bucket, postings in contents.items()
    ]


def _hits(tags: bytes) -> list[int]:
    """Return the hits in the tags of consecutive entries, sorted: tag and place in one number."""
    hits: list[int] = []
    for role in (ACTOR, SUBJECT):
        words = bytearray(4 * (len(tags) // PAIR_BYTES))
        for byte in range(TAG_BYTES):
            words[1 + byte :: 4] = tags[TAG_BYTES * role + byte :: PAIR_BYTES]
        numbers = struct.unpack(f">{len(words) // 4}I", words)
        first = role << STRETCH_BITS
        hits += [tag << _PLACE_BITS | place for place, tag in enumerate(numbers, first) if tag]
    hits.sort()
    return hits


def _frequent_tags(hits: Sequence[int]) -> dict[int, range]:
    """Return the tags with more than FREQUENT hits, ascending, and where their hits are."""
    # So many consecutive hits include one of every FREQUENT.
    candidates = dict.fromkeys(hit >> _PLACE_BITS for hit in hits[::FREQUENT])
    found = {
        tag: _places_of(hits, tag << _PLACE_BITS, tag + 1 << _PLACE_BITS) for tag in candidates
    }
    return {tag: places for tag, places in found.items() if len(places) > FREQUENT}


def _places_of(hits: Sequence[int], lowest: int, after: int) -> range:
    return range(bisect_left(hits, lowest), bisect_left(hits, after))


def _bucket(hits: Sequence[int], bucket: int, frequent: dict[int, range]) -> bytes:
    """Return the postings of a bucket."""
    shift = _LOW_BITS + _PLACE_BITS
    places = _places_of(hits, bucket << shift, bucket + 1 << shift)
    named = [tag for tag in frequent if tag >> _LOW_BITS == bucket]
    rare: list[int] = []
    at = places.start
    for tag in named:
        rare += hits[at : frequent[tag].start]
        at = frequent[tag].stop
    rare += hits[at : places.stop]
    return struct.pack(
        f">{len(named) + 1}H{len(rare)}I",
        len(named),
        *(tag & _LOW for tag in named),
        *[hit & _BUCKET_MASK for hit in rare],
    )


def offsets_in_run(row: IndexRow, tag: int, role: int) -> list[int]:
    """Return the offsets of the entries with a tag in a run. Raises IndexDamaged."""
    return _offsets(row.postings, _RUN_WIDTH, tag, role)


def offsets_in_bucket(row: IndexRow, tag: int, role: int) -> list[int] | None:
    """Return the offsets of the entries with a tag in a stretch, by the row of its bucket.

    None: the tag is frequent, and has a row of its own. Raises IndexDamaged.
    """
    count = int.from_bytes(row.postings[:2], "big")
    start = 2 + 2 * count
    if len(row.postings) < start:
        raise IndexDamaged(f"the frequent tags of {row_name(row)} are missing")
    low = tag & _LOW
    if low in struct.unpack(f">{count}H", row.postings[2:start]):
        return None
    return _offsets(row.postings[start:], _BUCKET_WIDTH, low, role)


def offsets_of_frequent(row: IndexRow, role: int) -> list[int]:
    """Return the offsets of the entries with a frequent tag, by its own row. Raises IndexDamaged."""
    return _offsets(row.postings, _TAG_WIDTH, 0, role)


def require_authentic(row: IndexRow, seal: Seal) -> None:
    """Raise IndexDamaged for a row that no holder of the key made for its place and entries."""
    right = len(seal.end_hash) == HASH_BYTES and hmac.compare_digest(row.mac, _mac(row[:5], seal))
    if not right:
        raise IndexDamaged(f"the MAC of {row_name(row)} is wrong")


def _authentic(
    org_id: int, level: int, stretch: int, bucket: int, postings: bytes, seal: Seal
) -> IndexRow:
    place = org_id, level, stretch, bucket, postings
    return IndexRow(*place, _mac(place, seal))


def _mac(row: tuple[int, int, int, int, bytes], seal: Seal) -> bytes:
    *place, postings = row
    message = _MAC_DOMAIN + _MAC_HEADER.pack(*place) + seal.end_hash + postings
    return hmac.digest(seal.key, message, "sha256")


def _offsets(postings: bytes, width: int, tag: int, role: int) -> list[int]:
    """Return the offsets of a tag among sorted hits, by bisection."""
    if len(postings) % width:
        raise IndexDamaged("the postings of a row are cut")
    lowest = tag << _PLACE_BITS | role << STRETCH_BITS
    places = range(len(postings) // width)

    def at(place: int) -> bytes:
        return postings[place * width : (place + 1) * width]

    first = bisect_left(places, lowest.to_bytes(width, "big"), key=at)
    after = bisect_left(places, (lowest + STRETCH_ENTRIES).to_bytes(width, "big"), key=at)
    # The last two bytes of each hit, whose role bit is known.
    words = bytearray(2 * (after - first))
    for byte in range(2):
        words[byte::2] = postings[(first + 1) * width - 2 + byte : after * width : width]
    return [word & (STRETCH_ENTRIES - 1) for word in struct.unpack(f">{after - first}H", words)]


def row_name(row: IndexRow) -> str:
    """Return the words for a row in messages."""
    return place_name(row.level, row.stretch, row.bucket)


def place_name(level: int, stretch: int, bucket: int) -> str:
    """Return the words for a place of the index in messages."""
    if level == RUN_LEVEL:
        return f"run {stretch}"
    return f"bucket {bucket} of stretch {stretch}"
