"""The search index finds exactly the entries with a tag, and no row of it can be exchanged."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.blocks.postings import (
    ACTOR,
    BUCKETS,
    FREQUENT,
    RUN_ENTRIES,
    STRETCH_ENTRIES,
    SUBJECT,
    IndexDamaged,
    IndexRow,
    Seal,
    offsets_in_bucket,
    offsets_in_run,
    offsets_of_frequent,
    require_authentic,
    run_row,
    stretch_rows,
)

SEAL = Seal(bytes(range(32)), bytes(range(32, 64)))
PEOPLE = (0, 1, 0xFFFF, 0x10000, 0x10001, 0xABCDEF, 0xABCDEE, 0xFFFFFF)
SOME_TAGS = st.lists(
    st.tuples(st.sampled_from(PEOPLE), st.sampled_from(PEOPLE)), max_size=RUN_ENTRIES
)


def packed(pairs: list[tuple[int, int]]) -> bytes:
    return b"".join(
        actor.to_bytes(3, "big") + subject.to_bytes(3, "big") for actor, subject in pairs
    )


def looked_up(rows: dict[int, IndexRow], tag: int, role: int) -> list[int]:
    """The offsets of a tag in the rows of a stretch, as a search reads them."""
    found = offsets_in_bucket(rows[tag >> 16], tag, role)
    return offsets_of_frequent(rows[BUCKETS + tag], role) if found is None else found


@given(SOME_TAGS, st.integers(1, 0xFFFFFF))
def test_a_run_finds_what_a_look_at_every_tag_finds(
    pairs: list[tuple[int, int]], stranger: int
) -> None:
    row = run_row(7, 3, packed(pairs), SEAL)
    for tag in {*PEOPLE[1:], stranger}:
        for role in (ACTOR, SUBJECT):
            expected = [n for n, pair in enumerate(pairs) if pair[role] == tag]
            assert offsets_in_run(row, tag, role) == expected


@pytest.mark.parametrize("share_of_one", [0.0, 0.9, 1.0])
def test_a_stretch_finds_every_entry(share_of_one: float) -> None:
    rng = random.Random(5)
    pairs = [
        (
            0xABCDEF if rng.random() < share_of_one else rng.randrange(1 << 24),
            rng.choice((0, 0xABCDEF, 0xABCDEE, rng.randrange(1 << 24))),
        )
        for _ in range(STRETCH_ENTRIES)
    ]
    rows = stretch_rows(7, 0, packed(pairs), SEAL)
    by_bucket = {row.bucket: row for row in rows}
    assert set(by_bucket) >= set(range(BUCKETS)), "every bucket has a row, even an empty one"
    assert BUCKETS + 0xABCDEF in by_bucket, "a frequent tag has a row of its own"
    for tag in {0xABCDEF, 0xABCDEE, 1, *(actor for actor, _ in pairs[:200])}:
        for role in (ACTOR, SUBJECT):
            expected = [n for n, pair in enumerate(pairs) if pair[role] == tag]
            assert looked_up(by_bucket, tag, role) == expected
    assert sum(len(row.postings) + len(row.mac) for row in rows) < 9 * STRETCH_ENTRIES


@given(st.integers(FREQUENT - 1, FREQUENT + 1))
def test_a_tag_is_frequent_above_the_limit(count: int) -> None:
    rows = stretch_rows(7, 0, packed([(5, 0)] * count), SEAL)
    by_bucket = {row.bucket: row for row in rows}
    assert (BUCKETS + 5 in by_bucket) is (count > FREQUENT)
    assert looked_up(by_bucket, 5, ACTOR) == list(range(count))
    assert looked_up(by_bucket, 6, ACTOR) == looked_up(by_bucket, 5, SUBJECT) == []


@given(SOME_TAGS, st.data())
def test_a_row_that_was_changed_or_moved_is_found_out(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    row = data.draw(st.sampled_from(stretch_rows(7, 3, packed(pairs), SEAL)))
    require_authentic(row, SEAL)
    bit = data.draw(st.integers(0, 8 * len(row.postings) - 1))
    changed = bytearray(row.postings)
    changed[bit // 8] ^= 1 << bit % 8
    forged = [
        row._replace(postings=bytes(changed)),
        row._replace(postings=row.postings[:-1]),
        row._replace(org_id=8),
        row._replace(level=0),
        row._replace(stretch=4),
        row._replace(bucket=row.bucket + 1),
        row._replace(mac=bytes(32)),
        row._replace(mac=row.mac[:16]),
    ]
    for one in forged:
        with pytest.raises(IndexDamaged):
            require_authentic(one, SEAL)
    for other in (SEAL._replace(key=bytes(32)), SEAL._replace(end_hash=bytes(32))):
        with pytest.raises(IndexDamaged):
            require_authentic(row, other)


@given(st.binary(max_size=40), st.integers(1, 0xFFFFFF))
def test_no_bytes_make_a_reader_do_more_than_refuse_them(postings: bytes, tag: int) -> None:
    row = IndexRow(7, 1, 0, tag >> 16, postings, b"")
    readers: tuple[Callable[[], list[int] | None], ...] = (
        lambda: offsets_in_run(row, tag, ACTOR),
        lambda: offsets_in_bucket(row, tag, ACTOR),
        lambda: offsets_of_frequent(row, ACTOR),
    )
    for read in readers:
        try:
            found = read()
        except IndexDamaged:
            continue
        assert found is None or len(found) <= len(postings) // 2
