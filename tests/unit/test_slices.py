"""An entry read from slices of its block is the one that the whole block has, or none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.blocks.block import Block, cut, pack
from ledger.blocks.layout import FRAME_BYTES, FRAME_ENTRIES
from ledger.blocks.reading import contents
from ledger.blocks.slices import EntrySlice, entry_in
from ledger.chain import EMPTY_HEAD, ChainHead, extend
from tests.support.search_index import draft
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID

SIZES = st.lists(
    st.one_of(st.integers(0, 300), st.sampled_from([2_100, FRAME_BYTES, FRAME_BYTES + 1])),
    min_size=1,
    max_size=2 * FRAME_ENTRIES + 3,
)


def blocks_of(sizes: list[int], first_seq: int = 0) -> list[Block]:
    drafts = [draft("ada", None, payload=b"%d" % at * size) for at, size in enumerate(sizes)]
    head = ChainHead(first_seq - 1, bytes(32), 0) if first_seq else EMPTY_HEAD
    return [pack(one) for one in cut(extend(ORG_ID, ORG, head, drafts, NOW_US, KEY)[0])]


def slice_of(block: Block, at: int) -> EntrySlice:
    """Cut the slices as the database does, by the numbers of ``ends``."""
    count, frame = block.entry_count, at // FRAME_ENTRIES
    frames = -(-count // FRAME_ENTRIES)

    def numbers(first: int, many: int) -> bytes:
        start = 1 + 4 * first
        return block.ends[max(start, 0) : max(start + 4 * many, 0)]

    def end_before(number: int) -> int:
        return int.from_bytes(numbers(number - 1, 1), "big") if frame else 0

    records, payloads = 2 * count, 2 * count + frames
    following = min(at + 1, count - 1) // FRAME_ENTRIES
    upto = int.from_bytes(numbers(records + following, 1), "big")
    end = int.from_bytes(numbers(payloads + frame, 1), "big")
    first = frame * FRAME_ENTRIES
    return EntrySlice(
        block.first_seq + at,
        block.last_seq,
        block.anchored_at,
        block.first_seq,
        block.last_hash,
        block.tags[6 * at : 6 * at + 6],
        numbers(first - 1, 2 * FRAME_ENTRIES + 1),
        numbers(count + first - 1, FRAME_ENTRIES + 1),
        numbers(records + frame - 1, 3),
        numbers(payloads + frame - 1, 2),
        block.leaves[end_before(records + frame) : upto],
        block.payloads[end_before(payloads + frame) : end],
    )


def is_regular(block: Block) -> bool:
    layout = block.layout()
    return all(
        frame.last - frame.first + 1 == FRAME_ENTRIES or frame.last == block.entry_count - 1
        for frame in (*layout.record_frames, *layout.payload_frames)
    )


@given(SIZES, st.sampled_from([0, 200, 250]))
def test_an_entry_of_slices_is_that_of_the_block(sizes: list[int], first_seq: int) -> None:
    """Also where another frame than the one that the position names holds the entry."""
    for block in blocks_of(sizes, first_seq):
        regular = is_regular(block)
        for at, expected in enumerate(contents(block).entries):
            found = entry_in(ORG_ID, slice_of(block, at))
            small = len(expected.payload) <= FRAME_BYTES
            assert found == expected if regular and small else found in (expected, None)


ONE_BLOCK = blocks_of([*range(20, 20 + 2 * FRAME_ENTRIES + 3)])[0]
ENTRIES = contents(ONE_BLOCK).entries


@given(
    st.integers(0, len(ENTRIES) - 1),
    st.sampled_from(["ends", "leaves", "payloads"]),
    st.integers(0),
)
def test_a_changed_bit_is_never_a_wrong_entry(at: int, column: str, bit: int) -> None:
    data = bytearray(getattr(ONE_BLOCK, column))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    changed = ONE_BLOCK._replace(**{column: bytes(data)})  # type: ignore[arg-type]
    assert entry_in(ORG_ID, slice_of(changed, at)) in (ENTRIES[at], None)


@given(st.integers(0, len(ENTRIES) - 1), st.sampled_from(EntrySlice._fields[6:]), st.integers(0))
def test_a_slice_that_is_cut_short_is_no_entry(at: int, field: str, left: int) -> None:
    part = slice_of(ONE_BLOCK, at)
    whole: bytes = getattr(part, field)
    short = part._replace(**{field: whole[: left % len(whole)]})  # type: ignore[arg-type]
    assert entry_in(ORG_ID, short) in (ENTRIES[at], None)


def test_an_entry_of_another_seq_or_payload_is_none() -> None:
    """Its frames can be read, but are not those of the entry."""
    part, other = slice_of(ONE_BLOCK, 3), slice_of(ONE_BLOCK, 40)
    moved = other._replace(seq=part.seq + FRAME_ENTRIES)
    assert entry_in(ORG_ID, moved._replace(leaves=part.leaves)) is None
    assert entry_in(ORG_ID, part._replace(first_seq=part.first_seq + 1)) is None
    swapped = part._replace(payloads=other.payloads, payload_ends=other.payload_ends)
    assert entry_in(ORG_ID, swapped) is None


def test_an_inflation_bomb_is_none() -> None:
    (block,) = blocks_of([4 * FRAME_BYTES])
    assert contents(block).entries[0].payload
    assert len(block.payloads) < 1 << 10
    assert entry_in(ORG_ID, slice_of(block, 0)) is None
