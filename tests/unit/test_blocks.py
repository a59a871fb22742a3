"""Blocks hold their entries exactly, and no stored bytes make a reader do more than they say."""

import random
import struct
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ledger.blocks.block import Block, cut, pack, short_tag
from ledger.blocks.frames import content_of, store
from ledger.blocks.layout import (
    BLOCK_BYTES,
    BLOCK_ENTRIES,
    FRAME_BYTES,
    FRAME_ENTRIES,
    BlockDamaged,
    Frame,
    frames_of,
    read_ends,
)
from ledger.blocks.reading import contents
from ledger.chain import ChainHead, Draft, StoredEntry, extend
from ledger.entry import payload_digest
from tests.support.block_format import checked
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID

COLUMNS = ("last_hash", "ends", "leaves", "payloads", "tags")


def entries(sizes: list[int], first_seq: int = 0, seed: int = 0) -> list[StoredEntry]:
    """Entries with payloads of these sizes."""
    rng = random.Random(seed)
    made = []
    for number, size in enumerate(sizes):
        payload = bytes(rng.choices(b'{"note": 0123456789}', k=size))
        digest = payload_digest(payload, None)
        made.append(
            Draft("read", f"user:{number % 7}", None, "login", None, "success", digest, None, None,
                  number % 7 + 1, 0, payload)
        )  # fmt: skip
    head = ChainHead(first_seq - 1, bytes(32) if first_seq else b"", 0)
    return extend(ORG_ID, ORG, head, made, NOW_US, KEY)[0]


def blocks(of: list[StoredEntry]) -> list[Block]:
    return [pack(part) for part in cut(of)]


def shortened(entry: StoredEntry) -> StoredEntry:
    """The entry with the tags that a block keeps."""
    return entry._replace(
        actor_tag=short_tag(entry.actor_tag), subject_tag=short_tag(entry.subject_tag)
    )


@given(
    st.lists(st.integers(0, 3_000), min_size=1, max_size=70), st.integers(0, 600), st.integers(0)
)
def test_a_block_returns_its_entries(sizes: list[int], first_seq: int, seed: int) -> None:
    made = entries(sizes, first_seq, seed)
    stored = blocks(made)
    read = [contents(block) for block in stored]
    assert [entry for one in read for entry in one.entries] == [shortened(one) for one in made]
    assert not any(one.unreadable for one in read)
    for block in stored:
        assert block.first_seq >> 8 == block.last_seq >> 8
        assert block.raw_bytes == block.layout().raw_bytes


@given(st.integers(1, 700), st.integers(0, 600), st.data())
def test_the_borders_depend_on_the_entries_only(
    count: int, first: int, data: st.DataObject
) -> None:
    """However many are cut at once: a restore cuts the blocks of a commit alike."""
    made = entries([10] * count, first)
    at = data.draw(st.integers(0, count))
    whole = [part[-1].seq for part in cut(made)]
    parts = [part[-1].seq for part in (*cut(made[:at]), *cut(made[at:]))]
    assert set(whole) <= set(parts) | {made[-1].seq}
    assert all(seq % BLOCK_ENTRIES == BLOCK_ENTRIES - 1 for seq in whole[:-1])


def test_a_block_ends_before_it_is_too_large() -> None:
    made = entries([1_500_000] * 5)
    assert [len(part) for part in cut(made)] == [2, 2, 1]
    made = entries([10, BLOCK_BYTES + 1, 10])
    assert [len(part) for part in cut(made)] == [1, 1, 1]
    assert list(cut([])) == []


@given(st.lists(st.integers(0, 2 * FRAME_BYTES), min_size=1, max_size=100))
def test_frames_are_bounded(sizes: list[int]) -> None:
    ends, total = [], 0
    for size in sizes:
        total += size
        ends.append(total)
    frames = frames_of(ends)
    assert [at for first, last in frames for at in range(first, last + 1)] == list(range(len(ends)))
    for first, last in frames:
        size = sum(sizes[first : last + 1])
        assert last - first < FRAME_ENTRIES
        assert size <= FRAME_BYTES or first == last
    for (first, last), (after, _) in pairwise(frames):
        assert after == last + 1
        full = last - first + 1 == FRAME_ENTRIES
        assert full or sum(sizes[first : after + 1]) > FRAME_BYTES


def test_many_entries_take_less_than_half_of_their_bytes() -> None:
    made = entries([250] * 256)
    (block,) = blocks(made)
    assert len(block.leaves) < 0.45 * (block.raw_bytes - 250 * 256)


def test_one_entry_is_compressed_with_the_dictionary() -> None:
    (block,) = blocks(entries([0], 1))
    assert len(block.leaves) < 0.55 * block.raw_bytes


def test_a_raw_block_stores_its_bytes_as_they_are() -> None:
    (entry,) = entries([300])
    block = pack([entry], raw=True)
    assert block.leaves == entry.signature + entry.leaf
    assert block.payloads == entry.payload
    assert contents(block).entries == [shortened(entry)]


def test_content_that_does_not_shrink_is_stored_raw() -> None:
    content = random.Random(1).randbytes(500)
    assert store(content) == content


@given(st.sampled_from(COLUMNS), st.integers(0), st.integers(0, 3))
def test_a_changed_bit_is_seen_and_costs_its_frame_only(column: str, bit: int, seed: int) -> None:
    made = [shortened(one) for one in entries([40] * 100, 1_024, seed)]
    (block,) = blocks(made)
    data = bytearray(getattr(block, column))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    read = contents(block._replace(**{column: bytes(data)}))  # type: ignore[arg-type]
    if column == "ends" and not read.entries:
        assert [(one.first_seq, one.last_seq) for one in read.unreadable] == [(1_024, 1_123)]
        return
    lost = {seq for one in read.unreadable for seq in range(one.first_seq, one.last_seq + 1)}
    assert len(lost) <= (2 * FRAME_ENTRIES if column == "ends" else FRAME_ENTRIES)
    differ = {entry.seq for entry in read.entries if entry != made[entry.seq - 1_024]}
    assert lost or differ
    assert {entry.seq for entry in read.entries} == {entry.seq for entry in made} - lost
    for one in read.unreadable:
        assert one.reason


def test_the_stored_hash_of_an_entry_is_what_the_next_leaf_names() -> None:
    made = [shortened(one) for one in entries([10, 10, 10], 5)]
    edited = made[1]._replace(leaf=made[1].leaf.replace(b'"action":"read"', b'"action":"fled"'))
    read = contents(pack([made[0], edited, made[2]])).entries
    assert [entry.entry_hash for entry in read] == [entry.entry_hash for entry in made]
    unnamed = made[2]._replace(leaf=made[2].leaf.replace(b"previous_hash", b"previous_hush"))
    assert contents(pack([made[0], made[1], unnamed])).entries[1].entry_hash == b""


def of_numbers(*numbers: int) -> bytes:
    return struct.pack(f">B{len(numbers)}I", 1, *numbers)


@pytest.mark.parametrize(
    ("ends", "count"),
    [
        (b"", 1),
        (b"\x02" + bytes(16), 1),
        (of_numbers(50, 10, 50, 10)[:-1], 1),
        (of_numbers(50), 1),
        (of_numbers(50, 10, 50), 1),
        (of_numbers(50, 10, 50, 10, 10), 1),
        (of_numbers(31, 10, 31, 10), 1),
        (of_numbers(32 + 65_536, 10, 50, 10), 1),
        (of_numbers(50, 2**32 - 1, 50, 10), 1),
        (of_numbers(50, 10, 51, 10), 1),
        (of_numbers(50, 10, 50, 11), 1),
        (of_numbers(100, 50, 10, 10, 100, 10), 2),
        (of_numbers(50, 10, 50, 10), 0),
        (of_numbers(50, 10, 50, 10), 2),
        (of_numbers(50, 10, 50, 10), 10**9),
        (of_numbers(50, 10, 50, 10), -5),
    ],
)  # fmt: skip
def test_lying_ends_are_refused_before_anything_is_read(ends: bytes, count: int) -> None:
    with pytest.raises(BlockDamaged):
        read_ends(ends, count)


def test_a_frame_inflates_to_its_size_at_most() -> None:
    (block,) = blocks(entries([100]))
    bomb = checked(zstandard.ZstdCompressor(level=19).compress(bytes(1 << 28)))
    stored = len(block.leaves)
    planted = block._replace(
        ends=of_numbers(block.layout().record_ends[0], 100_000, stored, len(bomb)), payloads=bomb
    )
    read = contents(planted)
    assert not read.entries
    assert "another size" in read.unreadable[0].reason


def test_a_frame_of_unstated_size_is_refused() -> None:
    (block,) = blocks(entries([1_000]))
    unstated = checked(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1_000)))
    ends = of_numbers(block.layout().record_ends[0], 1_000, len(block.leaves), len(unstated))
    assert contents(block._replace(ends=ends, payloads=unstated)).unreadable


@given(st.integers(0), st.integers(9, 2_000))
def test_each_changed_bit_of_a_compressed_frame_makes_it_unreadable(bit: int, size: int) -> None:
    """Also those bits that zstd does not look at, such as its padding."""
    content = b"0123456789" * size
    stored = store(content)
    frame = Frame(0, 0, 0, len(stored), 0, len(content))
    assert content_of(stored, frame) == content
    data = bytearray(stored)
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    with pytest.raises(BlockDamaged, match="has not the bytes that were written"):
        content_of(bytes(data), frame)
