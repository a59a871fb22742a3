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
append-only.
"""

from __future__ import annotations

import hmac
import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ledger.blocks.block import TAG_BYTES
from ledger.errors import QuireError

RUN_BITS: Final = 10
RUN_ENTRIES: Final = 1 << RUN_BITS
STRETCH_BITS: Final = 14
STRETCH_ENTRIES: Final = 1 << STRETCH_BITS
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
_MAC_DOMAIN: Final = b"quire search index 1\0"
_MAC_HEADER: Final = struct.Struct(">QBQI")


class IndexDamaged(QuireError):
    """A row of the search index is missing, forged, or not of its form."""


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


class Hit(NamedTuple):
    """A tag of the entry at an offset in its run or stretch."""

    tag: int
    role: int
    offset: int


def hits_of(tags: bytes) -> list[Hit]:
    """Return the hits in the tags of consecutive entries; the tag 0 is none."""
    hits: list[Hit] = []
    width = 2 * TAG_BYTES
    for at in range(0, len(tags), width):
        both = int.from_bytes(tags[at : at + width], "big")
        for role, tag in enumerate(divmod(both, 1 << 8 * TAG_BYTES)):
            if tag:
                hits.append(Hit(tag, role, at // width))
    return hits


def run_row(org_id: int, run: int, tags: bytes, key: bytes) -> IndexRow:
    """Return the row of a run, from the tags of its entries."""
    postings = _packed((_number(hit) for hit in hits_of(tags)), _RUN_WIDTH)
    return _authentic(org_id, RUN_LEVEL, run, 0, postings, key)


def stretch_rows(org_id: int, stretch: int, hits: Iterable[Hit], key: bytes) -> list[IndexRow]:
    """Return the rows of a stretch: one for each bucket, then one for each frequent tag."""
    by_bucket: list[list[Hit]] = [[] for _ in range(BUCKETS)]
    for hit in hits:
        by_bucket[hit.tag >> _LOW_BITS].append(hit)
    contents: dict[int, bytes] = {}
    own: dict[int, bytes] = {}
    for bucket, of_bucket in enumerate(by_bucket):
        counts = Counter(hit.tag for hit in of_bucket)
        frequent = sorted(tag for tag, count in counts.items() if count > FREQUENT)
        rare = (_number(hit, _LOW) for hit in of_bucket if counts[hit.tag] <= FREQUENT)
        named = struct.pack(f">{len(frequent) + 1}H", len(frequent), *(t & _LOW for t in frequent))
        contents[bucket] = named + _packed(rare, _BUCKET_WIDTH)
        for tag in frequent:
            places = (_number(hit, 0) for hit in of_bucket if hit.tag == tag)
            own[BUCKETS + tag] = _packed(places, _TAG_WIDTH)
    return [
        _authentic(org_id, STRETCH_LEVEL, stretch, bucket, postings, key)
        for bucket, postings in (contents | own).items()
    ]


def hits_of_run(row: IndexRow) -> Iterator[Hit]:
    """Yield the hits of the row of a run, to merge them. Raises IndexDamaged."""
    for number in _numbers(row.postings, _RUN_WIDTH):
        place = number & _PLACE_MASK
        yield Hit(number >> _PLACE_BITS, place >> STRETCH_BITS, place & (STRETCH_ENTRIES - 1))


def merged(runs: Sequence[IndexRow]) -> Iterator[Hit]:
    """Yield the hits of consecutive runs, in the offsets of their stretch. Raises IndexDamaged."""
    for number, row in enumerate(runs):
        for hit in hits_of_run(row):
            yield hit._replace(offset=hit.offset + number * RUN_ENTRIES)


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
        raise IndexDamaged(f"the frequent tags of {_named(row)} are missing")
    low = tag & _LOW
    if low in struct.unpack(f">{count}H", row.postings[2:start]):
        return None
    return _offsets(row.postings[start:], _BUCKET_WIDTH, low, role)


def offsets_of_frequent(row: IndexRow, role: int) -> list[int]:
    """Return the offsets of the entries with a frequent tag, by its own row. Raises IndexDamaged."""
    return _offsets(row.postings, _TAG_WIDTH, 0, role)


def require_authentic(row: IndexRow, key: bytes) -> None:
    """Raise IndexDamaged for a row that no holder of the key made for its place."""
    if not hmac.compare_digest(row.mac, _mac(row[:5], key)):
        raise IndexDamaged(f"the MAC of {_named(row)} is wrong")


def _authentic(
    org_id: int, level: int, stretch: int, bucket: int, postings: bytes, key: bytes
) -> IndexRow:
    place = org_id, level, stretch, bucket, postings
    return IndexRow(*place, _mac(place, key))


def _mac(row: tuple[int, int, int, int, bytes], key: bytes) -> bytes:
    *place, postings = row
    return hmac.digest(key, _MAC_DOMAIN + _MAC_HEADER.pack(*place) + postings, "sha256")


def _number(hit: Hit, tag_mask: int = -1) -> int:
    return (hit.tag & tag_mask) << _PLACE_BITS | hit.role << STRETCH_BITS | hit.offset


def _packed(numbers: Iterable[int], width: int) -> bytes:
    return b"".join(number.to_bytes(width, "big") for number in sorted(numbers))


def _numbers(postings: bytes, width: int) -> Iterator[int]:
    if len(postings) % width:
        raise IndexDamaged("the postings of a row are cut")
    for at in range(0, len(postings), width):
        yield int.from_bytes(postings[at : at + width], "big")


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
    return [
        int.from_bytes(at(place), "big") & (STRETCH_ENTRIES - 1) for place in places[first:after]
    ]


def _named(row: IndexRow) -> str:
    return f"bucket {row.bucket} of stretch {row.stretch}, level {row.level}, of the search index"
