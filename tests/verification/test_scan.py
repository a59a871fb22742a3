"""The check of streams agrees with the reference on every altered row, wherever chunks are cut."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.blocks.block import pack
from ledger.chain import EMPTY_HEAD, StoredEntry, check_entry
from ledger.core.verification.rows.rows import CopyError
from ledger.core.verification.rows.scan import SegmentScan
from ledger.core.verification.work.segments import Segment
from ledger.entry import decode_leaf, encode_leaf_unchecked, entry_hash
from ledger.keys import SigningKey, SigningKeyring
from tests.support.trails import KEY, ORG, RING, trail
from tests.verification.streams import blocks, scan, scan_blocks, stream

pytestmark = pytest.mark.usefixtures("any_borders")

ROWS, HEAD = trail(9, EMPTY_HEAD)
PLACE = 4
ONE = Segment(PLACE, PLACE, context=True)
BYTES_COLUMNS = ("entry_hash", "signature", "leaf", "payload")


def flip(data: bytes, bit: int) -> bytes:
    place = bit // 8 % len(data)
    return data[:place] + bytes([data[place] ^ (1 << bit % 8)]) + data[place + 1 :]


@st.composite
def altered_columns(draw: st.DrawFn) -> StoredEntry:
    """A row with none, one or two columns altered."""
    row = ROWS[PLACE]
    for _ in range(draw(st.integers(0, 2))):
        column = draw(st.sampled_from(StoredEntry._fields[2:]))
        value: Any = getattr(row, column)
        if column in BYTES_COLUMNS:
            widths = [value[:-1], value + b"\0", b""] if column != "signature" else []
            kept = draw(st.sampled_from([value, value, value, *widths]))
            value = flip(kept, draw(st.integers(0, 8 * 1024))) if kept else kept
        elif column == "anchored_at":
            value += timedelta(microseconds=draw(st.integers(-2, 2)))
        else:
            value ^= 1 << draw(st.integers(0, 23))
        row = row._replace(**{column: value})
    return row


def signed(leaf: bytes, key: SigningKey = KEY) -> StoredEntry:
    """The row with other leaf bytes, hashed and signed by a holder of the key."""
    digest = entry_hash(leaf)
    return ROWS[PLACE]._replace(leaf=leaf, entry_hash=digest, signature=key.sign(digest))


LEAF = ROWS[PLACE].leaf
FIELDS = list(type(decode_leaf(LEAF)).__struct_fields__)


@st.composite
def forged_leaves(draw: st.DrawFn) -> StoredEntry:
    """The row with a rightly signed leaf that has another meaning, or the same in other bytes."""
    leaf = decode_leaf(LEAF)
    name = draw(st.sampled_from([name for name in FIELDS if name not in ("payload", "v")]))
    texts = st.sampled_from([None, "", "é", "\\", "\x7f", "\x85", '"', "\n", "ada", "b" * 64])
    value: Any = draw(st.integers(-1, 9)) if name == "seq" else draw(texts)
    setattr(leaf, name, value)
    encoded = encode_leaf_unchecked(leaf)
    spoil = draw(st.sampled_from(["", "", " ", "\n", "twice", "escape"]))
    if spoil == "twice":
        encoded = encoded.replace(b'"v":1', b'"v":1,"v":1')
    elif spoil == "escape":
        encoded = encoded.replace(b"invoice", b"\\u0069nvoice")
    return signed(encoded + spoil.strip("twiceap").encode())


def reference(row: StoredEntry, ring: SigningKeyring = RING) -> list[tuple[str, str]]:
    faults = check_entry(row, ORG, ring, ROWS[PLACE - 1].entry_hash)
    moved = any(fault.kind == "seq_mismatch" for fault in faults)
    return [(f.kind, f.reason) for f in faults if not (moved and f.kind == "link_broken")]


@given(altered_columns() | forged_leaves())
def test_verdict_on_an_altered_row_is_the_reference_checks(row: StoredEntry) -> None:
    result = scan([ROWS[PLACE - 1], row, *ROWS[PLACE + 1 :]], ONE)
    assert [(fault.kind, fault.reason) for fault in result.faults] == reference(row)
    assert result.rows == 1
    assert result.failed_rows == bool(result.faults)


@given(altered_columns() | forged_leaves())
def test_and_so_it_is_in_the_middle_of_a_block(row: StoredEntry) -> None:
    """Where the hash of an entry is what the next leaf names."""
    row = row._replace(anchored_at=ROWS[0].anchored_at, entry_hash=ROWS[PLACE].entry_hash)
    kinds = {fault.kind for fault in check_entry(row, ORG, RING, None)}
    readable = not kinds & {"leaf_malformed", "unknown_key"}
    if readable and row.signature == KEY.sign(entry_hash(row.leaf)):
        # The next entry is to blame.
        row = row._replace(entry_hash=entry_hash(row.leaf))
    result = scan_blocks([pack([*ROWS[:PLACE], row, *ROWS[PLACE + 1 :]])], ONE)
    assert [(fault.kind, fault.reason) for fault in result.faults] == reference(row)


@given(st.integers(1, 700), st.sampled_from([1, 2, 9]))
def test_chunks_may_be_cut_anywhere(chunk_bytes: int, entries: int) -> None:
    whole = Segment(0, 8, open_start=True)
    result = scan(ROWS, whole, chunk_bytes=chunk_bytes, entries=entries)
    assert (result.rows, result.fault_count, result.end_hashes) == (9, 0, [HEAD.entry_hash])


@pytest.mark.parametrize("cut", [0, 5, 19, 25, 400, -1, -2, -3])
def test_a_stream_cut_short_is_no_verdict(cut: int) -> None:
    checking = SegmentScan(ORG, RING, Segment(0, 8, open_start=True))
    checking.feed(stream(blocks(ROWS))[:cut])
    with pytest.raises(CopyError):
        checking.finish()


@pytest.mark.parametrize("data", [b"", b"x" * 40, stream([])[:19] + b"\0\x03" + bytes(40)])
def test_bytes_that_are_no_copy_are_no_verdict(data: bytes) -> None:
    checking = SegmentScan(ORG, RING, Segment(0, 8, open_start=True))
    with pytest.raises(CopyError):  # noqa: PT012 - either of the two finds it
        checking.feed(data)
        checking.finish()


@pytest.mark.parametrize(
    ("column", "seqs"),
    [
        ("last_hash", {5: {"unreadable"}}),
        ("tags", {seq: {"column_mismatch"} for seq in (3, 4)}
         | {5: {"unreadable", "column_mismatch"}}),
        ("raw_bytes", {5: {"unreadable", "column_mismatch"}}),
        ("ends", {3: {"unreadable"}}),
        ("leaves", {3: {"unreadable"}, 5: {"unreadable"}}),
        ("payloads", {3: {"unreadable"}, 5: {"unreadable"}}),
        ("first_seq", {3: {"missing"}, 5: {"unreadable"}}),
    ],
)  # fmt: skip
def test_a_column_that_is_null_is_named_and_no_other_block_blamed(
    column: str, seqs: dict[int, set[str]]
) -> None:
    made = blocks(ROWS, 3)
    absent: dict[str, Any] = {column: None}
    made[1] = made[1]._replace(**absent)
    result = scan_blocks(made, Segment(0, 8, open_start=True))
    found: dict[int, set[str]] = {}
    for fault in result.faults:
        found.setdefault(fault.seq, set()).add(fault.kind)
    assert found == seqs
    assert result.rows + result.missing == 9 + (column == "first_seq")


def test_rotated_keys_and_characters_of_every_kind_pass() -> None:
    second = SigningKey("k2", b"2" * 32)
    rows, head = trail(3, EMPTY_HEAD)
    more, _head = trail(3, head, second)
    whole = Segment(0, 5, open_start=True)
    result = scan(rows + more, whole, ring=RING.rotated(second), entries=6)
    assert result.fault_count == 0
    unknown = scan(rows + more, whole, entries=6)
    assert [(fault.seq, fault.kind) for fault in unknown.faults] == [
        (seq, "unknown_key") for seq in (3, 4, 5)
    ]


def test_faults_are_bounded_and_counted_exactly() -> None:
    rows, _head = trail(1_200, EMPTY_HEAD)
    altered = [row._replace(payload=b"") for row in rows]
    result = scan(altered, Segment(0, 1_199, open_start=True), entries=256)
    assert (len(result.faults), result.fault_count, result.failed_rows) == (1_000, 1_200, 1_200)
