"""Entries of a block are selected by tags and patterns, and read from their frames alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.blocks.block import Block, cut, pack, short_tag
from ledger.blocks.layout import BlockDamaged, Frame
from ledger.blocks.reading import contents
from ledger.blocks.selecting import (
    BlockRow,
    Matches,
    choose,
    frames_with,
    matching,
    positions_of,
    tagged,
)
from ledger.chain import EMPTY_HEAD, Draft, StoredEntry, extend
from ledger.entry import payload_digest, search_tag
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID

TAGS = st.sampled_from([0, 1, 0x010101, 0x010100, 0x000101, 0xFFFFFF])


@given(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=40), TAGS, TAGS, st.data())
def test_tags_are_found_where_they_are_aligned(
    pairs: list[tuple[int, int]], actor: int, subject: int, data: st.DataObject
) -> None:
    """Also where the same bytes stand across two tags."""
    if not actor and not subject:
        actor = 1
    tags = b"".join(one.to_bytes(3, "big") + two.to_bytes(3, "big") for one, two in pairs)
    first = data.draw(st.integers(0, len(pairs) - 1))
    last = data.draw(st.integers(first, len(pairs) - 1))
    within = positions_of(100, 100 + len(pairs) - 1, tags, 100 + first, 100 + last)
    assert tagged(tags, actor, subject, within) == [
        position
        for position in range(first, last + 1)
        if actor in (0, pairs[position][0]) and subject in (0, pairs[position][1])
    ]


@given(st.integers(-5, 300), st.integers(-5, 300), st.integers(-5, 2_000))
def test_a_block_with_impossible_borders_or_tags_is_damaged(
    first: int, last: int, size: int
) -> None:
    tags = bytes(max(size, 0))
    if 1 <= last - first + 1 <= 256 and len(tags) == 6 * (last - first + 1):
        assert list(positions_of(first, last, tags, first, last)) == list(range(last - first + 1))
    else:
        with pytest.raises(BlockDamaged):
            positions_of(first, last, tags, first, last)


def made(sizes: Sequence[int]) -> list[StoredEntry]:
    drafts = []
    for number, size in enumerate(sizes):
        actor = f"user:{number % 3}"
        payload = bytes([number % 256]) * size
        digest, tag = payload_digest(payload, None), search_tag(actor)
        basis = "w" * (size % 7_000)
        drafts.append(
            Draft(None, actor, None, None, basis, None, digest, None, None, tag, 0, payload)
        )
    return extend(ORG_ID, ORG, EMPTY_HEAD, drafts, NOW_US, KEY)[0]


def row_of(block: Block) -> BlockRow:
    return BlockRow(
        block.last_seq,
        block.anchored_at,
        block.first_seq,
        block.last_hash,
        block.tags,
        block.ends,
        None,
        None,
    )


def selected(block: Block, positions: Sequence[int], patterns: Sequence[bytes]) -> Matches:
    """The records that match, read from no more than the frames that are needed."""
    chosen = choose(row_of(block), positions)
    return matching(chosen, [_stored(block.leaves, frame) for frame in chosen.frames], patterns)


def _stored(column: bytes, frame: Frame) -> bytes:
    return column[frame.start : frame.start + frame.size]


@given(st.lists(st.integers(0, 9_000), min_size=1, max_size=80), st.data())
def test_chosen_entries_are_those_of_the_whole_block(sizes: list[int], data: st.DataObject) -> None:
    block = pack(next(cut(made(sizes))))
    whole = contents(block).entries
    positions = data.draw(st.sets(st.integers(0, block.entry_count - 1), min_size=1))
    patterns = data.draw(st.sampled_from([(), (b'"actor":"user:1",',), (b"user:", b"user:2")]))
    found = selected(block, sorted(positions), patterns)
    expected = [
        entry
        for position, entry in enumerate(whole)
        if position in positions and all(pattern in entry.leaf for pattern in patterns)
    ]
    assert [one.entry(ORG_ID, expected[at].payload) for at, one in enumerate(found.records)] == [
        *expected
    ]
    assert not found.unreadable
    for one in found.records:
        frame = one.payload_frame
        assert frame.first <= one.position <= frame.last
        assert one.payload_size == len(whole[one.position].payload)
        assert short_tag(search_tag(f"user:{one.position % 3}")) == whole[one.position].actor_tag


@given(st.lists(st.integers(0, 9_000), min_size=40, max_size=80), st.data())
def test_a_frame_that_can_t_be_read_costs_the_chosen_entries_in_it(
    sizes: list[int], data: st.DataObject
) -> None:
    block = pack(next(cut(made(sizes))))
    frames = block.layout().record_frames
    bad = data.draw(st.sampled_from(frames))
    end = bad.start + bad.size
    broken = block._replace(leaves=block.leaves[: bad.start] + bytes(bad.size) + block.leaves[end:])
    positions = sorted(data.draw(st.sets(st.integers(0, block.entry_count - 1), min_size=1)))
    found = selected(broken, positions, ())
    inside = [position for position in positions if bad.first <= position <= bad.last]
    if bad.size < bad.raw_size:
        assert [one[:2] for one in found.unreadable] == ([bad[:2]] if inside else [])
        assert [one.position for one in found.records] == [
            position for position in positions if position not in inside
        ]
        hashes = [entry.entry_hash for entry in contents(broken).entries]
        seqs = [entry.seq for entry in contents(broken).entries]
        by_seq = dict(zip(seqs, hashes, strict=True))
        assert all(one.entry_hash == by_seq[one.seq] for one in found.records)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.data())
def test_frames_are_those_that_hold_the_positions(sizes: list[int], data: st.DataObject) -> None:
    frames, first = [], 0
    for size in sizes:
        frames.append(Frame(first, first + size - 1, 0, 0, 0, 0))
        first += size
    positions = sorted(data.draw(st.lists(st.integers(0, first - 1))))
    assert frames_with(frames, positions) == [
        frame
        for frame in frames
        if any(frame.first <= position <= frame.last for position in positions)
    ]
