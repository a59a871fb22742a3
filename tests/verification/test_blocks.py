"""Blocks that were damaged, planted, moved or cut otherwise: each fault is found at its place."""

from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.blocks.block import Block, cut, pack, stands_alone
from ledger.blocks.layout import FRAME_ENTRIES
from ledger.chain import EMPTY_HEAD, StoredEntry, extend
from ledger.core.verification.rows import windows
from ledger.core.verification.rows.rows import CopiedBlock, CopyError
from ledger.core.verification.rows.scan import SegmentScan
from ledger.core.verification.work.segments import Segment, SegmentResult
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, RING, draft, trail
from tests.verification.streams import blocks, scan_blocks, stream

COUNT = 600
ROWS, HEAD = trail(COUNT, EMPTY_HEAD)
COMMITS = {entries: trail(COUNT, EMPTY_HEAD, commit=entries) for entries in (1, 5, 100, 256)}
WHOLE = Segment(0, COUNT - 1, open_start=True, tree=True)
BLOCKS = blocks(ROWS)
LATE = timedelta(hours=1)
COLUMNS = ("last_hash", "tags", "ends", "leaves", "payloads")


def found(made: Sequence[Block], segment: Segment = WHOLE) -> dict[int, set[str]]:
    """The kinds of fault at each seq, in blocks as the database would order them."""
    return kinds_of(scan_blocks(sorted(made, key=lambda b: b[1:3]), segment))


def kinds_of(result: SegmentResult) -> dict[int, set[str]]:
    kinds: dict[int, set[str]] = {}
    for fault in result.faults:
        kinds.setdefault(fault.seq, set()).add(fault.kind)
    return kinds


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def changed(number: int, **columns: Any) -> list[Block]:
    return [block._replace(**columns) if n == number else block for n, block in enumerate(BLOCKS)]


@pytest.mark.parametrize("entries", [1, 2, 31, 100, 256, 300, 600])
def test_commits_of_any_size_are_right(entries: int) -> None:
    rows, head = trail(COUNT, EMPTY_HEAD, commit=entries)
    result = scan_blocks(blocks(rows), WHOLE)
    assert (result.rows, result.fault_count, result.end_hashes) == (COUNT, 0, [head.entry_hash])


@pytest.mark.parametrize("entries", [1, 2, 31, 100])
def test_the_same_entries_in_other_blocks_are_a_fault_of_each_border(entries: int) -> None:
    made = blocks(ROWS, entries)
    begun = {block.first_seq for block in made if block.first_seq % 256}
    assert begun
    assert found(made) == {seq: {"block_border"} for seq in begun}
    result = scan_blocks(made, WHOLE)
    assert (result.rows, result.failed_rows, result.end_hashes) == (COUNT, 0, [HEAD.entry_hash])
    # Beside a wrong entry, the entry alone has the fault.
    edited = blocks(edit([300]), entries)
    apart = {b.first_seq for b in edited if b.first_seq <= 300 <= b.last_seq}
    apart |= {b.last_seq + 1 for b in edited if b.first_seq <= 300 <= b.last_seq}
    assert {300} <= set(found(edited)) <= (begun - apart) | {300}
    assert found(edited)[300] == {"hash_mismatch"}


def test_borders_where_a_block_would_be_too_large() -> None:
    drafts = [draft(bytes([n]) * 1_500_000) for n in range(7)]
    made = extend(ORG_ID, ORG, EMPTY_HEAD, drafts, NOW_US, KEY)[0]
    whole = Segment(0, 6, open_start=True)
    parts = [pack(part) for part in cut(made)]
    assert [block.first_seq for block in parts] == [0, 2, 4, 6]
    assert found(parts, whole) == {}
    others = [pack(made[first:last]) for first, last in ((0, 1), (1, 3), (3, 5), (5, 7))]
    assert found(others, whole) == {seq: {"block_border"} for seq in (1, 3, 5)}


def test_the_drop_of_a_month_is_alone_in_its_block() -> None:
    dropped = draft(b"{}", event_type="quire.partition_dropped")
    drafts = [draft(b"a"), dropped, draft(b"b"), draft(b"c")]
    made = extend(ORG_ID, "system", EMPTY_HEAD, drafts, NOW_US, KEY)[0]
    segment = Segment(0, 3, open_start=True)

    def judged(parts: Sequence[Sequence[StoredEntry]]) -> dict[int, set[str]]:
        checking = SegmentScan("system", RING, segment)
        raw = [stands_alone(part[0].leaf) for part in parts]
        checking.feed(stream([pack(p, raw=r) for p, r in zip(parts, raw, strict=True)]))
        return kinds_of(checking.finish())

    assert judged([*cut(made)]) == {}
    assert [len(part) for part in cut(made)] == [1, 1, 2]
    assert judged([made]) == {0: {"block_border"}}
    assert judged([made[:2], made[2:]]) == {0: {"block_border"}}
    assert judged([made[:1], made[1:2], made[2:3], made[3:]]) == {3: {"block_border"}}


@given(st.sampled_from(COLUMNS), st.integers(0), st.integers(0, 2))
def test_a_flipped_bit_is_found_in_its_block(column: str, bit: int, number: int) -> None:
    block = BLOCKS[number]
    data = getattr(block, column)
    result = scan_blocks(changed(number, **{column: flipped(data, bit % (8 * len(data)))}), WHOLE)
    kinds = kinds_of(result)
    assert kinds
    assert all(block.first_seq <= seq <= block.last_seq for seq in kinds)
    if column == "last_hash":
        assert kinds == {block.last_seq: {"hash_mismatch", "signature_invalid"}}
    elif column == "tags":
        assert kinds == {block.first_seq + bit % (8 * len(data)) // 48: {"column_mismatch"}}
    elif column != "ends":
        assert result.failed_rows <= FRAME_ENTRIES
    assert result.rows + result.missing == COUNT


def test_a_flipped_bit_of_a_frame_stored_as_it_is_is_located_to_the_entry() -> None:
    random = Random(1)
    made = extend(
        ORG_ID, ORG, EMPTY_HEAD, [draft(random.randbytes(100)) for _ in range(70)], NOW_US, KEY
    )[0]
    raw = pack(made, raw=True)
    layout = raw.layout()
    for _ in range(100):
        position = random.randrange(70)
        bits = {}
        for column, ends in (("leaves", layout.record_ends), ("payloads", layout.payload_ends)):
            start = ends[position - 1] if position else 0
            bits[column] = random.randrange(8 * start, 8 * ends[position])
        for column, bit in bits.items():
            one = raw._replace(**{column: flipped(getattr(raw, column), bit)})  # type: ignore[arg-type]
            assert set(kinds_of(scan_blocks([one], Segment(0, 69, open_start=True)))) == {position}


@pytest.mark.parametrize("column", ["leaves", "payloads"])
def test_an_unreadable_frame_names_its_range_and_all_else_is_read(column: str) -> None:
    payloads = [b'{"amount":%d,"currency":"EUR"}' % number * 3 for number in range(COUNT)]
    made = blocks(extend(ORG_ID, ORG, EMPTY_HEAD, [*map(draft, payloads)], NOW_US, KEY)[0])
    block = made[1]
    layout = block.layout()
    frames = layout.record_frames if column == "leaves" else layout.payload_frames
    frame = frames[3]
    assert frame.size < frame.raw_size, "a raw frame can always be read"
    data = flipped(getattr(block, column), 8 * (frame.start + frame.size) - 1)
    made[1] = block._replace(**{column: data})  # type: ignore[arg-type]
    if column == "leaves":  # and the payloads of other entries
        made[1] = made[1]._replace(payloads=block.payloads[:-1])
    result = scan_blocks(made, WHOLE)
    first, last = 256 + frame.first, 256 + frame.last
    assert (first, last) == (352, 383)
    named = {fault.seq: fault.reason for fault in result.faults}
    assert "352 to 383" in named[first]
    assert set(named) == ({first} if column == "payloads" else {first, 256 + 224})
    lost = 32 if column == "payloads" else 64
    assert (result.rows, result.failed_rows, result.missing) == (COUNT, lost, 0)
    # A range names its own part only, and nothing where it does not meet the frame.
    context = Segment(360, 370, context=True)
    assert set(found(made, context)) == {360}
    assert found(made, Segment(384, 470, context=True)) == {}
    assert found(made, Segment(300, 351, context=True)) == {}


def test_the_leaf_after_an_unreadable_one_is_not_to_blame() -> None:
    frame = BLOCKS[0].layout().record_frames[-1]
    lost = changed(0, leaves=BLOCKS[0].leaves[: frame.start])
    assert found(lost) == {224: {"unreadable"}}
    replaced = [
        *lost[:1],
        *blocks(extend(ORG_ID, ORG, HEAD._replace(seq=255), [draft(b"x")] * 344, NOW_US, KEY)[0]),
    ]
    assert found(replaced) == {224: {"unreadable"}, 256: {"link_broken"}}


@pytest.mark.parametrize(
    ("columns", "kinds"),
    [
        ({"raw_bytes": 7}, {511: {"column_mismatch"}}),
        ({"payloads": BLOCKS[1].payloads + b"x"}, {511: {"column_mismatch"}}),
        ({"leaves": BLOCKS[1].leaves + b"x"}, {511: {"column_mismatch"}}),
        ({"tags": BLOCKS[1].tags + b"x"}, {511: {"column_mismatch"}}),
        ({"tags": b""}, {seq: {"column_mismatch"} for seq in range(256, 512)}),
        ({"ends": b""}, {256: {"unreadable"}}),
        ({"leaves": b""}, {seq: {"unreadable"} for seq in range(256, 512, 32)}),
        ({"first_seq": 257}, {256: {"missing"}, 257: {"unreadable"}}),
        ({"first_seq": 255}, {256: {"missing"}, 511: {"unreadable"}}),
        ({"first_seq": 512}, {256: {"missing"}, 511: {"unreadable"}}),
        ({"first_seq": -(10**9)}, {256: {"missing"}, 511: {"unreadable"}}),
        ({"anchored_at": BLOCKS[1].anchored_at + LATE},
         {seq: {"column_mismatch"} for seq in range(256, 512)}),
    ],
)  # fmt: skip
def test_columns_of_a_block(columns: dict[str, Any], kinds: dict[int, set[str]]) -> None:
    assert found(changed(1, **columns)) == kinds
    assert found(changed(1, **columns), Segment(0, 255, open_start=True)) == {}
    assert found(changed(1, **columns), Segment(512, 599, context=True)) == {}


def test_a_block_moved_to_other_seqs() -> None:
    moved = changed(1, first_seq=256 + 1024, last_seq=511 + 1024)
    whole = Segment(0, 2_000, open_start=True)
    kinds = found(moved, whole)
    assert kinds[256] == {"missing"}
    assert all(kinds[seq] == {"seq_mismatch"} for seq in range(1_280, 1_536))
    assert set(kinds) == {256, 600, *range(1_280, 1_536)}


@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 255), (100, 120), (250, 255), (590, 599)])
@pytest.mark.parametrize("late", [LATE, -LATE])
def test_a_second_block_with_some_of_the_entries(first: int, last: int, late: timedelta) -> None:
    copy = pack(ROWS[first : last + 1])
    copy = copy._replace(anchored_at=copy.anchored_at + late)
    result = scan_blocks(sorted([*BLOCKS, copy], key=lambda b: b[1:3]), WHOLE)
    assert kinds_of(result) == {
        seq: {"duplicate_seq", "column_mismatch"} for seq in range(first, last + 1)
    }
    assert (result.rows, result.failed_rows) == (COUNT + last + 1 - first, last + 1 - first)
    assert result.end_hashes[0] == HEAD.entry_hash


@pytest.mark.parametrize(("first", "last"), [(0, 0), (7, 7), (100, 120), (250, 255), (599, 599)])
@pytest.mark.parametrize("late", [LATE, -LATE])
def test_a_forged_block_over_some_of_the_entries(first: int, last: int, late: timedelta) -> None:
    forged = [
        row._replace(leaf=row.leaf.replace(b"success", b"failure"), signature=bytes(32))
        for row in ROWS[first : last + 1]
    ]
    planted = pack(forged)._replace(anchored_at=ROWS[0].anchored_at + late)
    kinds = found([*BLOCKS, planted])
    assert set(kinds) == set(range(first, last + 1))
    assert all("inserted" in some for some in kinds.values())


def test_an_unreadable_block_over_right_entries_hides_nothing() -> None:
    planted = pack(ROWS[100:120])._replace(leaves=b"", anchored_at=ROWS[0].anchored_at - LATE)
    assert found([*BLOCKS, planted]) == {100: {"unreadable"}}
    edited = [*ROWS]
    edited[110] = edited[110]._replace(payload=b"other")
    assert found([*blocks(edited), planted]) == {100: {"unreadable"}, 110: {"payload_mismatch"}}


def test_windows_are_held_within_a_bound() -> None:
    """Thousands of blocks planted in one window, which claim to hold far more than they do."""
    big = [draft(bytes(200_000)) for _ in range(20)]
    bombs = extend(ORG_ID, ORG, EMPTY_HEAD, big, NOW_US, KEY)[0]
    planted = [
        pack(bombs)._replace(anchored_at=bombs[0].anchored_at + n * timedelta(microseconds=1))
        for n in range(40)
    ]
    assert max(len(block.payloads) for block in planted) < 10_000
    held: list[int] = []
    window = windows.Windows(lambda some: held.append(sum(map(windows.raw_bytes, some))))
    for number, block in enumerate(planted):
        window.add(CopiedBlock(block.org_id, block.last_seq, number, *block[3:]))
    window.flush()
    assert len(held) > 5
    assert max(held) <= windows.HELD_BYTES
    kinds = found([*BLOCKS, *planted])
    assert set(kinds) >= set(range(20))
    assert max(kinds) <= 255


def test_blocks_in_another_order_are_no_verdict() -> None:
    checking = SegmentScan(ORG, RING, WHOLE)
    with pytest.raises(CopyError, match="out of order"):  # noqa: PT012 - either of the two finds it
        checking.feed(stream([BLOCKS[1], BLOCKS[0]]))
        checking.finish()


@given(st.integers(1, 599), st.integers(0, 400), st.sampled_from([1, 5, 100, 256]))
def test_ranges_cut_blocks(first: int, more: int, entries: int) -> None:
    last = min(first + more, COUNT - 1)
    rows, _head = COMMITS[entries]
    edited = edit([first - 2, last + 1], rows)
    segment = Segment(first, last, context=True, proven=True)
    result = scan_blocks(blocks(edited), segment)
    assert (result.rows, result.fault_count) == (last - first + 1, 0)
    result = scan_blocks(blocks(edit([first, last], rows)), segment)
    assert set(kinds_of(result)) == {first, last}


def edit(seqs: list[int], of: Sequence[StoredEntry] = ROWS) -> list[StoredEntry]:
    """The rows, with another leaf at these seqs."""
    rows = [*of]
    for seq in seqs:
        if 0 <= seq < COUNT:
            rows[seq] = rows[seq]._replace(leaf=rows[seq].leaf.replace(b"success", b"failure"))
    return rows


@pytest.mark.parametrize("entries", [1, 100, 256])
def test_entries_of_the_archive_come_before_blocks_and_are_checked_alike(entries: int) -> None:
    rows, head = COMMITS[entries]
    result = with_archive(rows[:300], blocks(rows[300:]))
    assert (result.rows, result.fault_count, result.end_hashes) == (COUNT, 0, [head.entry_hash])
    wrong = [*rows[:300]]
    wrong[299] = wrong[299]._replace(payload=b"")
    wrong[5] = wrong[5]._replace(signature=bytes(32))
    result = with_archive(wrong, blocks(rows[300:]))
    assert kinds_of(result) == {5: {"signature_invalid"}, 299: {"payload_mismatch"}}
    result = with_archive(rows[:256], blocks(rows[300:]))
    assert kinds_of(result) == {256: {"missing"}}


def with_archive(archived: Sequence[StoredEntry], made: Sequence[Block]) -> SegmentResult:
    checking = SegmentScan(ORG, RING, WHOLE)
    for start in range(0, len(archived), 256):
        checking.add(archived[start : start + 256])
    checking.feed(stream(made))
    return checking.finish()
