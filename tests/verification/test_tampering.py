"""Each possible tampering with a trail's rows is found at its seq, and no other row is blamed."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain import EMPTY_HEAD, ChainHead, StoredEntry
from ledger.core.verification.work.faults import CHECKS_OF_ENTRIES, CHECKS_OF_KIND
from ledger.entry import entry_hash
from ledger.keys import SigningKeyring
from tests.support.trails import KEY, ORG_ID, RING, draft, trail
from tests.verification.streams import blame, judge

COUNT = 12
pytestmark = pytest.mark.usefixtures("any_borders")

ROWS, HEAD = trail(COUNT, EMPTY_HEAD)
LAST = COUNT - 1
PLACES = range(COUNT)  # in segments of 4: both ends, the borders, and rows in between

Blame = dict[int, set[str]]


def put(seq: int, /, **columns: Any) -> list[StoredEntry]:
    rows = list(ROWS)
    rows[seq] = rows[seq]._replace(**columns)
    return rows


def found(
    rows: list[StoredEntry],
    head: ChainHead | None = HEAD,
    in_blocks_of: Sequence[int] = (1, 3, COUNT),
    **how: Any,
) -> Blame:
    """What is blamed for what: the same in blocks of any size."""
    first, *others = [blamed(rows, head, entries=entries, **how) for entries in in_blocks_of]
    assert all(other == first for other in others)
    return first


def blamed(rows: list[StoredEntry], head: ChainHead | None, **how: Any) -> Blame:
    result = judge(rows, head, **how)
    assert result.valid == (result.fault_count == 0)
    assert result.fault_count == len(result.errors)
    assert result.verified_entries + result.failed_entries == result.total_entries
    for fault in result.errors:
        assert all(getattr(result.checks, name) is False for name in CHECKS_OF_KIND[fault.kind])
    return blame(result)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("size", range(1, 14))
def test_an_untouched_trail_is_valid(size: int) -> None:
    result = judge(ROWS, HEAD, size=size)
    assert (result.valid, result.total_entries, result.verified_entries) == (True, COUNT, COUNT)
    assert {getattr(result.checks, name) for name in (*CHECKS_OF_ENTRIES, "head")} == {True}
    assert result.checks.tree == "not_checked"


ALTERED: list[tuple[str, Callable[[StoredEntry], Any], set[str]]] = [
    ("entry_hash", lambda row: flipped(row.entry_hash, 9), {"hash_mismatch", "signature_invalid"}),
    ("signature", lambda row: flipped(row.signature, 31), {"signature_invalid"}),
    ("payload", lambda row: flipped(row.payload, 0), {"payload_mismatch"}),
    ("payload", lambda row: row.payload[:-1], {"payload_mismatch"}),
    ("actor_tag", lambda row: row.actor_tag ^ 1, {"column_mismatch"}),
    ("subject_tag", lambda row: row.subject_tag ^ (1 << 22), {"column_mismatch"}),
    ("anchored_at", lambda row: row.anchored_at + timedelta(microseconds=1), {"column_mismatch"}),
]


@pytest.mark.parametrize("seq", PLACES)
@pytest.mark.parametrize(("column", "alter", "kinds"), ALTERED)
def test_an_altered_column(
    seq: int, column: str, alter: Callable[[StoredEntry], Any], kinds: set[str]
) -> None:
    # The hash of an entry is a column only for the last of a block.
    in_blocks_of = (1,) if column == "entry_hash" else (1, 3, COUNT)
    assert found(put(seq, **{column: alter(ROWS[seq])}), in_blocks_of=in_blocks_of) == {seq: kinds}


@pytest.mark.parametrize("seq", [2, 5, 8, LAST])
def test_an_altered_hash_of_the_last_entry_of_a_block(seq: int) -> None:
    rows = put(seq, entry_hash=flipped(ROWS[seq].entry_hash, 9))
    assert found(rows, in_blocks_of=(1, 3)) == {seq: {"hash_mismatch", "signature_invalid"}}


@given(st.sampled_from(PLACES), st.integers(0, 10_000), st.integers(1, 5))
def test_an_altered_leaf(seq: int, bit: int, size: int) -> None:
    leaf = ROWS[seq].leaf
    place = bit // 8 % len(leaf)
    altered = leaf[:place] + bytes([leaf[place] ^ (1 << bit % 8)]) + leaf[place + 1 :]
    for entries in (1, 3, COUNT):
        named = blamed(put(seq, leaf=altered), HEAD, size=size, entries=entries)
        assert set(named) == {seq}
        assert "hash_mismatch" in named[seq]


@pytest.mark.parametrize("seq", PLACES[1:-1])
def test_a_leaf_whose_hash_was_recomputed_breaks_the_next_link(seq: int) -> None:
    leaf = ROWS[seq].leaf.replace(b"success", b"failure")
    rows = put(seq, leaf=leaf, entry_hash=entry_hash(leaf))
    both = {seq: {"signature_invalid"}, seq + 1: {"link_broken"}}
    assert found(rows, in_blocks_of=(1,)) == both
    is_last_of_three = seq % 3 == 2
    assert found(rows, in_blocks_of=(3,)) == (
        both if is_last_of_three else {seq: {"hash_mismatch"}}
    )


@pytest.mark.parametrize("seq", PLACES[1:])
def test_a_leaf_that_names_another_hash_is_to_blame_for_it(seq: int) -> None:
    """Not the entry before, whose signature fits its leaf."""
    before = ROWS[seq - 1].entry_hash.hex().encode()
    leaf = ROWS[seq].leaf.replace(before, ROWS[seq].entry_hash.hex().encode())
    assert found(put(seq, leaf=leaf)) == {seq: {"hash_mismatch", "link_broken"}}
    signed = {"leaf": leaf, "entry_hash": entry_hash(leaf), "signature": KEY.sign(entry_hash(leaf))}
    after = {seq + 1: {"link_broken"}} if seq < LAST else {LAST: {"link_broken", "head_mismatch"}}
    assert found(put(seq, **signed)) == {seq: {"link_broken"}} | after


@pytest.mark.parametrize("first", PLACES)
@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_removed_rows(first: int, count: int) -> None:
    rows = ROWS[:first] + ROWS[first + count :]
    kind = "missing" if first + count < COUNT else "wiped" if first == 0 else "truncated"
    assert found(rows) == {first: {kind}}
    assert judge(rows, HEAD).failed_entries == COUNT - len(rows)


def test_all_rows_removed() -> None:
    assert found([]) == {0: {"wiped"}}
    assert judge([], HEAD).checks.hashes == "not_checked"


@pytest.mark.parametrize(("a", "b"), [(0, 11), (0, 1), (3, 4), (4, 5), (2, 9), (10, 11)])
def test_swapped_rows(a: int, b: int) -> None:
    rows = list(ROWS)
    rows[a], rows[b] = rows[a]._replace(seq=b), rows[b]._replace(seq=a)
    assert found(rows) == {a: {"seq_mismatch"}, b: {"seq_mismatch"}}


@pytest.mark.parametrize(("a", "b"), [(0, 11), (3, 4), (5, 9)])
@pytest.mark.parametrize("column", ["leaf", "payload", "signature", "entry_hash"])
def test_swapped_contents(a: int, b: int, column: str) -> None:
    rows = list(ROWS)
    for here, there in ((a, b), (b, a)):
        rows[here] = rows[here]._replace(**{column: getattr(ROWS[there], column)})
    for entries in (1, 3, COUNT) if column != "entry_hash" else (1,):
        assert set(blamed(rows, HEAD, entries=entries)) == {a, b}


@pytest.mark.parametrize("seq", PLACES)
@pytest.mark.parametrize("days", [-1, 0, 1])
def test_a_duplicated_row(seq: int, days: int) -> None:
    copy = ROWS[seq]._replace(anchored_at=ROWS[seq].anchored_at + timedelta(days=days))
    expected = {"duplicate_seq"} | ({"column_mismatch"} if days else set())
    assert found([*ROWS, copy]) == {seq: expected}


@pytest.mark.parametrize("seq", PLACES)
@pytest.mark.parametrize("days", [-1, 1])
def test_an_inserted_row_is_blamed_whichever_comes_first(seq: int, days: int) -> None:
    forged = ROWS[seq]._replace(
        anchored_at=ROWS[seq].anchored_at + timedelta(days=days),
        leaf=ROWS[seq].leaf.replace(b"success", b"failure"),
        signature=bytes(32),
    )
    named = found([*ROWS, forged])
    assert set(named) == {seq}
    assert {"inserted", "signature_invalid"} <= named[seq]
    assert judge([*ROWS, forged], HEAD).failed_entries == 1


@pytest.mark.parametrize("seq", PLACES)
def test_a_row_moved_onto_another(seq: int) -> None:
    target = (seq + 5) % COUNT
    kind = "truncated" if seq == LAST else "missing"
    assert found(put(seq, seq=target)) == {seq: {kind}, target: {"seq_mismatch"}}


@pytest.mark.parametrize("seq", PLACES)
def test_a_row_moved_out_of_the_trail(seq: int) -> None:
    far = seq ^ (1 << 50)
    assert found(put(seq, seq=far)) == {seq: {"missing"}, far: {"seq_mismatch", "beyond_head"}}
    before = seq - (1 << 63)
    kind = "truncated" if seq == LAST else "missing"
    assert found(put(seq, seq=before)) == {seq: {kind}, before: {"genesis", "seq_mismatch"}}


def test_rows_shifted_to_hide_a_removal_or_make_room() -> None:
    closed = [row._replace(seq=seq) for seq, row in enumerate(ROWS[:5] + ROWS[6:])]
    named = found(closed)
    assert named == {**{seq: {"seq_mismatch"} for seq in range(5, 11)}, 11: {"truncated"}}
    forged = ROWS[5]._replace(leaf=b"{}", signature=bytes(32))
    opened = [*ROWS[:5], forged, *(row._replace(seq=row.seq + 1) for row in ROWS[5:])]
    assert min(found(opened)) == 5


def test_entries_beyond_the_head_row() -> None:
    more, _head = trail(3, HEAD)
    assert found(ROWS + more) == {12: {"beyond_head"}}
    assert judge(ROWS + more, HEAD).failed_entries == 3
    unsigned = more[0]._replace(signature=bytes(32))
    assert found([*ROWS, unsigned]) == {12: {"beyond_head", "signature_invalid"}}


@pytest.mark.parametrize("size", [1, 4, 20])
@pytest.mark.parametrize(
    ("head", "seq"),
    [
        (HEAD._replace(entry_hash=flipped(HEAD.entry_hash, 0)), LAST),
        (HEAD._replace(anchored_us=HEAD.anchored_us ^ 1), LAST),
        (HEAD._replace(seq=LAST ^ 2), LAST ^ 2),
        (HEAD._replace(seq=LAST ^ 4), LAST ^ 4),
        (HEAD._replace(seq=LAST | 1 << 45), LAST | 1 << 45),
        (HEAD._replace(seq=LAST - (1 << 63)), LAST - (1 << 63)),
        (HEAD._replace(seq=-1), -1),
    ],
)
def test_an_edited_head_row(head: ChainHead, seq: int, size: int) -> None:
    assert found(ROWS, head, size=size) == {seq: {"head_mismatch"}}
    assert judge(ROWS, head).checks.hashes is True


def test_a_head_row_set_back_or_removed() -> None:
    _rows, earlier = trail(6, EMPTY_HEAD)
    assert found(ROWS, earlier) == {6: {"beyond_head"}}
    assert found(ROWS, EMPTY_HEAD) == {0: {"beyond_head"}}
    assert found(ROWS, None) == {LAST: {"head_missing"}}
    assert found([], None) == {0: {"head_missing"}}


def test_an_empty_trail_is_incomplete_and_nothing_in_it_is_called_checked() -> None:
    result = judge([], EMPTY_HEAD)
    assert (result.verdict, result.valid) == ("incomplete", False)
    assert (result.first_seq, result.last_seq, result.fault_count) == (0, -1, 0)
    assert (result.checks.hashes, result.checks.head) == ("not_checked", True)


def test_wrong_and_unknown_keys() -> None:
    wrong = SigningKeyring.from_secret(b"w" * 32, "k1")
    assert found(ROWS, ring=wrong) == {seq: {"signature_invalid"} for seq in PLACES}
    unknown = SigningKeyring.from_secret(b"w" * 32, "k9")
    assert found(ROWS, ring=unknown) == {seq: {"unknown_key"} for seq in PLACES}
    result = judge(ROWS, HEAD, ring=unknown)
    assert (result.verdict, result.checks.signatures) == ("incomplete", "not_checked")
    assert result.verified_entries == 0
    assert "keyring lacks a key" in result.reasons["signatures"]
    damaged = [*ROWS[:3], ROWS[3]._replace(payload=b"other"), *ROWS[4:]]
    result = judge(damaged, HEAD, ring=unknown)
    assert (result.verdict, result.checks.signatures) == ("refuted", "not_checked")


def test_a_fork_by_a_holder_of_the_key() -> None:
    prefix, head = trail(6, EMPTY_HEAD)
    del prefix
    from ledger.chain import extend  # noqa: PLC0415 - only here

    fork, _head = extend(ORG_ID, "acme", head, [draft(b"other")] * 3, HEAD.anchored_us, KEY)
    assert found(ROWS[:6] + fork + ROWS[9:]) == {9: {"link_broken"}}
    assert found(ROWS + fork)  # both branches are stored


@st.composite
def tamperings(draw: st.DrawFn, *, hashes: bool) -> tuple[list[StoredEntry], set[int]]:
    """A trail tampered with at one to three separate seqs, and those seqs.

    ``hashes``: the hash of an entry may be altered alone, as it is a column.
    """
    rows = {row.seq: [row] for row in ROWS}
    places = draw(st.sets(st.sampled_from(range(0, COUNT, 2)), min_size=1, max_size=3))
    for seq in places:
        row = ROWS[seq]
        late = row.anchored_at + timedelta(days=1)
        rows[seq] = draw(
            st.sampled_from(
                [
                    [],
                    [row, row],
                    [row, row._replace(anchored_at=late)],
                    [row._replace(payload=row.payload + b" ")],
                    [row._replace(leaf=row.leaf + b" ")],
                    [row._replace(leaf=b"")],
                    *([[row._replace(entry_hash=b"")]] if hashes else []),
                    *([[row._replace(entry_hash=row.signature)]] if hashes else []),
                    [row._replace(leaf=b"\xff", entry_hash=bytes(32), payload=b"")],
                    [row._replace(actor_tag=0)],
                    [row._replace(signature=row.entry_hash)],
                    [row, row._replace(signature=b"", anchored_at=late)],
                ]
            )
        )
    return [row for group in rows.values() for row in group], places


@given(st.data(), st.sampled_from([1, 3, 5, COUNT]), st.integers(1, 13))
def test_any_tampering_is_found_at_its_seq(data: st.DataObject, entries: int, size: int) -> None:
    rows, places = data.draw(tamperings(hashes=entries == 1))
    named = set(blamed(rows, HEAD, size=size, entries=entries))
    # Adjacent removals are one fault; these are never adjacent. If a row lost its leaf and
    # hash, the next entry has no predecessor to link to; only then is that entry named too.
    lost = {row.seq + 1 for row in rows if row.leaf == b"\xff" and row.seq < LAST}
    assert places <= named <= places | lost


@given(st.data(), st.integers(1, 13))
def test_no_set_of_rows_stops_the_verification(data: st.DataObject, size: int) -> None:
    seqs = st.integers(-3, COUNT + 3)
    rows = data.draw(
        st.lists(
            st.builds(lambda row, seq: row._replace(seq=seq), st.sampled_from(ROWS), seqs),
            max_size=14,
        )
    )
    result = judge(rows, HEAD, size=size, entries=data.draw(st.sampled_from([1, 4, COUNT])))
    in_place = [row.seq for row in rows] == [row.seq for row in ROWS] and rows == ROWS
    assert result.valid == in_place
    assert RING.ids() == ["k1"]
