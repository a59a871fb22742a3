"""The checks of a single entry."""

import pytest

from ledger.chain import EMPTY_HEAD, StoredEntry
from ledger.core.verification.single import EntryResult, verify_entry
from ledger.entry import parse_record_id
from ledger.keys import SigningKeyring
from tests.support.trails import NOW_US, ORG, ORG_ID, RING, trail

ROWS, _HEAD = trail(3, EMPTY_HEAD)
NOW = "2026-01-01T12:00:00.000000Z"


def verify(
    row: StoredEntry, before: StoredEntry | None = ROWS[1], ring: SigningKeyring = RING
) -> EntryResult:
    return verify_entry(row, before, ORG, ring, timestamp=NOW)


def verdicts(result: EntryResult) -> list[object]:
    *checks, included = (getattr(result.checks, name) for name in result.checks.__struct_fields__)
    assert included == "not_checked"
    return checks


def test_right_entries() -> None:
    result = verify(ROWS[2])
    assert (result.valid, result.errors, verdicts(result)) == (True, [], [True] * 4)
    assert parse_record_id(result.record_id) == (ORG_ID, NOW_US, 2)
    assert verify(ROWS[0], None).valid


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ROWS[2]._replace(signature=bytes(32)), [True, False, True, True]),
        (ROWS[2]._replace(payload=b""), [True, True, True, False]),
        (ROWS[2]._replace(actor_tag=1), [False, True, True, True]),
        (ROWS[2]._replace(entry_hash=bytes(32)), [False, False, True, True]),
        (ROWS[1]._replace(seq=2), [True, True, False, True]),
    ],
)
def test_altered_entries(row: StoredEntry, expected: list[object]) -> None:
    result = verify(row)
    assert (result.valid, verdicts(result)) == (False, expected)
    assert {fault.seq for fault in result.errors} == {2}


def test_an_entry_with_an_unmade_check_is_not_valid() -> None:
    result = verify(ROWS[2]._replace(leaf=b"{}"))
    assert verdicts(result) == [False, *["not_checked"] * 3]


def test_links() -> None:
    assert verdicts(verify(ROWS[2], None))[2] is False
    assert verdicts(verify(ROWS[2], ROWS[0]))[2] is False
    assert verify(ROWS[2], ROWS[1]._replace(entry_hash=bytes(32))).valid


def test_unknown_key() -> None:
    result = verify(ROWS[2], ring=SigningKeyring.from_secret(b"x" * 32, "other"))
    assert verdicts(result) == [True, "not_checked", True, True]
    assert (result.verdict, result.valid) == ("incomplete", False)
    assert [fault.kind for fault in result.errors] == ["unknown_key"]
