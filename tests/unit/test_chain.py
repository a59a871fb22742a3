"""Entries made by `extend`, and all the faults that `check_entry` must find."""

from datetime import timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain import EMPTY_HEAD, ChainHead, StoredEntry, check_entry, extend
from ledger.entry import Leaf, decode_leaf, encode_leaf, entry_hash, format_time
from ledger.keys import SigningKey, SigningKeyring
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, RING, draft, flips, maybe_texts, trail

ROWS, HEAD = trail(3, EMPTY_HEAD)
KINDS = {"leaf": "hash_mismatch", "payload": "payload_mismatch", "entry_hash": "hash_mismatch"}


def kinds(
    row: StoredEntry, previous: bytes | None, ring: SigningKeyring = RING, org: str = ORG
) -> list[str]:
    return [fault.kind for fault in check_entry(row, org, ring, previous)]


def with_column(row: StoredEntry, column: str, value: Any) -> StoredEntry:
    """A copy of the row with another value in one column."""
    return row._replace(**{column: value})


def resigned(row: StoredEntry, leaf: Leaf) -> StoredEntry:
    """The row with another leaf, hashed and signed by a holder of the key."""
    encoded = encode_leaf(leaf)
    digest = entry_hash(encoded)
    return row._replace(leaf=encoded, entry_hash=digest, signature=KEY.sign(digest))


def test_a_trail_is_right_from_its_first_entry() -> None:
    previous = b""
    for seq, row in enumerate(ROWS):
        assert row.seq == seq
        assert kinds(row, previous) == []
        assert kinds(row, None) == []
        previous = row.entry_hash
    assert ChainHead(2, ROWS[-1].entry_hash, NOW_US) == HEAD


@given(st.lists(st.tuples(st.binary(), maybe_texts, maybe_texts), min_size=1, max_size=5))
def test_every_appended_entry_passes_the_checks(
    parts: list[tuple[bytes, str | None, str | None]],
) -> None:
    rows, head = extend(ORG_ID, ORG, HEAD, [draft(*part) for part in parts], NOW_US, KEY)
    previous = HEAD.entry_hash
    for row, (payload, actor, subject) in zip(rows, parts, strict=True):
        assert kinds(row, previous) == []
        leaf = decode_leaf(row.leaf)
        assert (row.payload, leaf.actor, leaf.subject) == (payload, actor, subject)
        assert leaf.previous_hash == previous.hex()
        previous = row.entry_hash
    assert head == ChainHead(HEAD.seq + len(parts), previous, NOW_US)


def test_extend_is_the_same_in_one_call_or_many() -> None:
    drafts = [draft(b"%d" % n) for n in range(4)]
    together, head = extend(ORG_ID, ORG, EMPTY_HEAD, drafts, NOW_US, KEY)
    apart: list[StoredEntry] = []
    at = EMPTY_HEAD
    for one in drafts:
        rows, at = extend(ORG_ID, ORG, at, [one], NOW_US, KEY)
        apart += rows
    assert apart == together
    assert at == head


def test_extending_by_nothing_keeps_the_head() -> None:
    assert extend(ORG_ID, ORG, HEAD, [], NOW_US, KEY) == ([], HEAD)
    assert extend(ORG_ID, ORG, EMPTY_HEAD, [], 0, KEY) == ([], EMPTY_HEAD)


def test_a_clock_that_goes_back_never_makes_an_entry_earlier() -> None:
    rows, head = extend(ORG_ID, ORG, HEAD, [draft(b"x")], NOW_US - 1, KEY)
    assert head.anchored_us == NOW_US
    assert decode_leaf(rows[0].leaf).anchored_at == format_time(NOW_US)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"seq{row.seq}")
@pytest.mark.parametrize("column", ["leaf", "payload", "entry_hash", "signature"])
def test_every_changed_bit_is_detected(row: StoredEntry, column: str) -> None:
    previous = ROWS[row.seq - 1].entry_hash if row.seq else b""
    expected = KINDS.get(column, "signature_invalid")
    for changed in flips(getattr(row, column)):
        assert expected in kinds(with_column(row, column, changed), previous)


@pytest.mark.parametrize("column", ["leaf", "payload", "entry_hash", "signature"])
def test_every_removed_or_added_byte_is_detected(column: str) -> None:
    value: bytes = getattr(ROWS[0], column)
    for place in range(len(value)):
        shorter = value[:place] + value[place + 1 :]
        assert kinds(with_column(ROWS[0], column, shorter), b"")
    for longer in (value + b"\x00", b"\x00" + value, b""):
        assert kinds(with_column(ROWS[0], column, longer), b"")


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("seq", 2, "seq_mismatch"),
        ("actor_tag", 1, "column_mismatch"),
        ("subject_tag", 0, "column_mismatch"),
        ("anchored_at", ROWS[1].anchored_at + timedelta(microseconds=1), "column_mismatch"),
        ("payload", ROWS[0].payload, "payload_mismatch"),
        ("leaf", b"", "leaf_malformed"),
    ],
)
def test_other_columns_are_checked_against_the_leaf(column: str, value: Any, kind: str) -> None:
    assert kind in kinds(with_column(ROWS[1], column, value), ROWS[0].entry_hash)


def test_a_row_of_another_org_is_foreign() -> None:
    assert kinds(ROWS[0], b"", org="other") == ["foreign_org"]


def test_a_row_after_another_one_has_a_broken_link() -> None:
    assert kinds(ROWS[2], ROWS[0].entry_hash) == ["link_broken"]
    assert kinds(ROWS[1], b"") == ["link_broken"]
    assert kinds(ROWS[0], ROWS[2].entry_hash) == ["link_broken"]


def test_a_first_entry_never_links_to_empty_text() -> None:
    empty = msgspec.structs.replace(decode_leaf(ROWS[0].leaf), previous_hash="")
    assert kinds(resigned_unchecked(ROWS[0], empty), b"") == ["leaf_malformed"]


def resigned_unchecked(row: StoredEntry, leaf: Leaf) -> StoredEntry:
    encoded = msgspec.json.encode(leaf)
    digest = sha256(b"\x00" + encoded).digest()
    return row._replace(leaf=encoded, entry_hash=digest, signature=KEY.sign(digest))


def test_a_wrong_payload_size_is_a_payload_fault() -> None:
    leaf = decode_leaf(ROWS[0].leaf)
    leaf.payload.size += 1
    assert kinds(resigned(ROWS[0], leaf), b"") == ["payload_mismatch"]


def test_only_keys_of_before_and_after_a_rotation_verify() -> None:
    new = SigningKey("k2", b"2" * 32)
    ring = RING.rotated(new)
    rows, _ = extend(ORG_ID, ORG, HEAD, [draft(b"x")], NOW_US, ring.active)
    assert kinds(rows[0], HEAD.entry_hash, ring) == []
    assert kinds(ROWS[0], b"", ring) == []
    assert kinds(rows[0], HEAD.entry_hash) == ["unknown_key"]
    imposter = SigningKeyring([SigningKey("k1", b"x" * 32)], ["k1"])
    assert kinds(ROWS[0], b"", imposter) == ["signature_invalid"]
