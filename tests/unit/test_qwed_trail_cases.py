"""Whole QWED trails, and the published cases of QWED's audit log."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import MissingKey, WeakKey
from ledger.keys import SigningKey, SigningKeyring
from ledger.qwed import (
    MAX_FAULTS_LISTED,
    MalformedQwedRow,
    QwedRow,
    TrailEnd,
    TrailVerifier,
    canonical_json,
    hash_fields,
    sign_hash,
    usable_secrets,
    verify_row,
    verify_trail,
)
from tests.qwed_writer import SECRET, entry, trail
from tests.support.cases import read_cases

CASES: dict[str, Any] = {case["id"]: case for case in read_cases("audit_cases.jsonl")}
# The cases about appending are in tests/integration/test_qwed_appending_cases.py.
ABOUT_APPENDING = {"audit-0016", "audit-0026"}


def expected(case_id: str) -> Any:
    return CASES[case_id]["expected"]


def test_every_published_case_is_covered() -> None:
    here = Path(__file__).read_text()
    missing = {case for case in CASES if f'expected("{case}")' not in here}
    assert missing == ABOUT_APPENDING


def test_canonical_text_hash_and_signature() -> None:
    given, want = CASES["audit-0002"]["input"], expected("audit-0002")
    assert canonical_json(given["payload"]) == want["canonical_json"]
    assert hash_fields(given["payload"]) == want["entry_hash"]
    assert sign_hash(given["secret_key"].encode(), want["entry_hash"]) == want["hmac_signature"]


def test_a_logger_without_secret_is_refused() -> None:
    with pytest.raises(MissingKey, match=expected("audit-0007")["message_contains"]):
        usable_secrets([])


def test_a_wrong_previous_hash_breaks_the_chain() -> None:
    want = expected("audit-0010")
    verdict = verify_row(entry("wrong-previous-hash", row_id=2), entry(), [SECRET])
    assert verdict.valid is want["valid"]
    assert verdict.chain_valid is want["checks.chain_valid"]
    assert verdict.errors == (want["errors_contains"],)


def test_model_output_is_covered_by_the_current_form() -> None:
    want = expected("audit-0013")
    before, after = CASES["audit-0013"]["input"]["mutate"]["raw_llm_output"]
    row = entry(raw_llm_output=before)
    assert verify_row(row, None, [SECRET]).valid
    verdict = verify_row(replace(row, raw_llm_output=after), None, [SECRET])
    assert verdict.valid is want["valid"]
    assert verdict.hash_valid is want["checks.hash_valid"]


def test_the_legacy_form_is_read() -> None:
    row = entry(form="legacy", raw_llm_output="not covered by the original hash")
    verdict = verify_row(row, None, [SECRET])
    assert verdict.valid is expected("audit-0014")["valid"]
    assert verdict.form == "legacy"


def test_a_previous_row_without_hash_breaks_the_chain() -> None:
    want = expected("audit-0019")
    first, second = trail(2)
    verdict = verify_row(second, replace(first, entry_hash=None), [SECRET])
    assert verdict.chain_valid is want["checks.chain_valid"]
    assert want["errors_contains"] in verdict.errors


def test_any_changed_field_is_a_hash_mismatch() -> None:
    want = expected("audit-0020")
    fields = CASES["audit-0020"]["input"]["mutate"].removeprefix("any of ").split(",")
    assert len(fields) == 8
    for name in fields:
        changed: Any = '{"value": 5}' if name == "result" else "other"
        verdict = verify_row(replace(entry(), **{name: changed}), None, [SECRET])
        assert verdict.hash_valid is want["checks.hash_valid"]
        assert want["errors_contains"] in verdict.errors


def test_a_wrong_key_fails_the_signatures_and_nothing_else() -> None:
    want, given = expected("audit-0022"), CASES["audit-0022"]["input"]
    verifier = TrailVerifier(1, [given["verify_key"].encode()])
    for row in trail(given["entries"], secret=given["sign_key"].encode()):
        verdict = verifier.check(row)
        assert {"valid": verdict.valid} | verdict.checks == want
    assert verifier.finish().failed_entries == [1, 2]


def test_the_shape_of_a_trail_report() -> None:
    want = expected("audit-0023")
    report = verify_trail(trail(3), 1, [SECRET])
    assert {name: getattr(report, name) for name in want} == want
    assert report.forms == {"current": 3, "legacy": 0}
    assert report.complete == "not_checked"


def test_a_result_that_is_not_json_is_a_typed_error_before_any_write() -> None:
    assert "rejected up front with typed error" in expected("audit-0025")["either"]
    with pytest.raises(MalformedQwedRow):
        canonical_json({"result": {"at": datetime.now(UTC)}})


def test_rows_cut_from_the_end_are_found_by_count_or_head() -> None:
    assert expected("audit-0030") == {"detected": True}
    rows = trail(5)
    head = str(rows[-1].entry_hash)
    for end in (TrailEnd(5), TrailEnd(None, head), TrailEnd(5, head)):
        whole, cut = verify_trail(rows, 1, [SECRET], end), verify_trail(rows[:3], 1, [SECRET], end)
        assert (whole.valid, whole.complete) == (True, True)
        assert (cut.valid, cut.complete) == (False, False)
        assert cut.failed_count == 0
        assert cut.trail_errors


def test_a_trail_that_grew_past_its_known_end_is_complete() -> None:
    rows = trail(5)
    end = TrailEnd(3, str(rows[2].entry_hash))
    assert verify_trail(rows, 1, [SECRET], end).complete is True


def test_an_end_that_was_replaced_is_found() -> None:
    rows = trail(5)
    end = TrailEnd(5, str(rows[4].entry_hash))
    rows[4] = entry(str(rows[3].entry_hash), row_id=5, query="something else")
    report = verify_trail(rows, 1, [SECRET], end)
    assert (report.failed_count, report.complete) == (0, False)
    assert "removed or replaced" in report.trail_errors[0]


def test_a_wiped_trail_is_found_even_with_nothing_to_compare() -> None:
    assert expected("audit-0031") == {"detected": True}
    for end in (TrailEnd(), TrailEnd(5), TrailEnd(5, "ab"), TrailEnd(None, "ab")):
        report = verify_trail([], 1, [SECRET], end)
        assert (report.valid, report.complete) == (False, False)
        assert "wiped" in report.trail_errors[0]
    assert verify_trail([], 1, [SECRET], TrailEnd(0)).valid


def test_a_malformed_row_is_reported_and_the_rest_still_verified() -> None:
    assert "continues" in expected("audit-0032")["verify_audit_trail"]
    rows = trail(5)
    rows[2] = replace(rows[2], result="{not-json")
    report = verify_trail(rows, 1, [SECRET])
    assert report.failed_entries == [3]
    assert (report.total_entries, report.verified_entries) == (5, 4)
    assert report.errors[0].startswith("row 3: Audit entry result payload is malformed")


def test_a_weak_key_can_read_history_but_never_sign() -> None:
    assert expected("audit-0034")["raises"] == "key must be >=32 bytes"
    weak = CASES["audit-0034"]["input"]["secret_key"].encode()
    with pytest.raises(WeakKey, match="at least 32"):
        SigningKeyring.from_secret(weak)
    assert verify_trail(trail(2, secret=weak), 1, [weak]).valid


def test_old_entries_verify_after_a_key_rotation() -> None:
    assert expected("audit-0035") == {"old entries still verify via key id": True}
    ring = SigningKeyring.from_secret(b"o" * 32)
    old_id, digest = ring.active.key_id, bytes(32)
    signature = ring.active.sign(digest)
    rotated = ring.rotated(SigningKey("new", b"n" * 32))
    assert rotated.active.key_id == "new"
    assert rotated.get(old_id).verify(digest, signature)


def test_a_trail_signed_with_two_secrets_verifies_with_both() -> None:
    rows = trail(2, secret=b"old")
    rows.append(entry(str(rows[1].entry_hash), row_id=3, secret=b"new"))
    assert verify_trail(rows, 1, [b"new", b"old"]).valid
    assert verify_trail(rows, 1, [b"new"]).failed_entries == [1, 2]


def test_verification_takes_linear_time_and_constant_memory() -> None:
    assert expected("audit-0038")["verify cost"] == "O(N), streaming"
    few, many = CASES["audit-0038"]["input"]["n"]
    _verify_streamed(few)
    fast, slow = (min(_verify_streamed(n)[0] for _ in range(3)) for n in (few, many))
    # Five times the rows; a quadratic verifier would need 25 times as long.
    assert slow < 12 * fast
    assert _peak_bytes(many) < _peak_bytes(few) + 64 * 1024


def _verify_streamed(count: int) -> tuple[float, bool]:
    start = time.perf_counter()
    report = verify_trail(_stream(count), 1, [SECRET])
    return time.perf_counter() - start, report.valid


def _peak_bytes(count: int) -> int:
    tracemalloc.start()
    try:
        assert _verify_streamed(count)[1]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _stream(count: int) -> Iterator[QwedRow]:
    previous_hash: str | None = None
    for row_id in range(1, count + 1):
        row = entry(previous_hash, row_id=row_id)
        previous_hash = str(row.entry_hash)
        yield row


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ("remove", [4]),
        ("swap", [3, 2, 4]),
        ("duplicate", [3]),
        ("insert", [99]),
        ("first", [2]),
    ],
)
def test_rows_removed_swapped_doubled_or_inserted_break_the_chain(
    change: str, failed: list[int]
) -> None:
    rows = trail(5)
    match change:
        case "remove":
            del rows[2]
        case "swap":
            rows[1], rows[2] = rows[2], rows[1]
        case "duplicate":
            rows.insert(3, rows[2])
        case "insert":
            rows.insert(2, entry("0" * 64, row_id=99))
            failed = [99, 3]
        case "first":
            del rows[0]
    report = verify_trail(rows, 1, [SECRET])
    assert report.failed_entries == failed
    assert not report.valid


def test_lists_are_bounded_and_counts_exact() -> None:
    rows = trail(1) * (MAX_FAULTS_LISTED + 5)
    report = verify_trail(rows, 1, [b"wrong"], TrailEnd(10_000))
    assert report.failed_count == MAX_FAULTS_LISTED + 5
    assert len(report.failed_entries) == len(report.errors) == MAX_FAULTS_LISTED
    assert report.trail_errors[0].startswith("Trail cut short")


def unsigned(row_id: int, **fields: Any) -> QwedRow:
    """A row as written by the API of QWED 7."""
    return replace(
        entry(row_id=row_id, form="legacy", raw_llm_output=None),
        entry_hash=None,
        hmac_signature=None,
        **fields,
    )


def test_unsigned_rows_before_the_chain_are_neither_valid_nor_broken() -> None:
    rows = [unsigned(1), unsigned(2), *trail(3, first_id=3)]
    report = verify_trail(rows, 1, [SECRET])
    assert (report.verdict, report.valid) == ("incomplete", False)
    assert (report.unsigned_entries, report.unsigned_count) == ([1, 2], 2)
    assert (report.failed_entries, report.verified_entries) == ([], 3)
    assert verify_trail(rows[:2], 1, [SECRET]).verdict == "incomplete"
    assert verify_trail(rows, 1, [SECRET], TrailEnd(6)).verdict == "refuted"


@pytest.mark.parametrize("place", [1, 2, 3])
def test_an_unsigned_row_behind_a_chained_one_is_a_fault(place: int) -> None:
    rows = trail(3)
    rows.insert(place, unsigned(50))
    report = verify_trail(rows, 1, [SECRET])
    assert report.failed_entries[0] == 50
    assert (report.verdict, report.unsigned_entries) == ("refuted", [])


@pytest.mark.parametrize("kept", ["entry_hash", "hmac_signature", "previous_hash"])
def test_a_row_that_lost_but_one_part_of_its_seal_is_a_fault(kept: str) -> None:
    part: dict[str, Any] = {kept: "a" * 64}
    first = replace(unsigned(1), **part)
    report = verify_trail([first, *trail(2, first_id=2)], 1, [SECRET])
    assert report.failed_entries[0] == 1
    assert report.unsigned_count == 0


@pytest.mark.parametrize(
    "gained", [{"api_key_id": 3}, {"verifier_version": "8.0.0"}, {"admission": "ADMIT"}]
)
def test_an_unsigned_row_must_not_gain_what_only_chained_rows_have(gained: dict[str, Any]) -> None:
    rows = [unsigned(1), unsigned(2, **gained), unsigned(3), *trail(2, first_id=4)]
    report = verify_trail(rows, 1, [SECRET])
    assert (report.failed_entries, report.unsigned_entries) == ([2], [1, 3])
    assert report.verdict == "refuted"


def test_the_chain_begins_with_a_link_to_nothing_behind_unsigned_rows_too() -> None:
    rows = [unsigned(1), *trail(3, first_id=2)[1:]]
    report = verify_trail(rows, 1, [SECRET])
    assert report.failed_entries == [3]
    assert "genesis entry must not reference" in report.errors[0]


def test_secrets_that_signed_nothing_are_wrong_where_signatures_alone_fail() -> None:
    cases: list[tuple[list[QwedRow], list[bytes], tuple[int, ...]]] = [
        (trail(2), [b"wrong"], (0,)),
        (trail(2), [SECRET, b"spare"], ()),
        (trail(2, secret=b"old"), [SECRET, b"wrong"], (0, 1)),
        ([replace(row, query="altered") for row in trail(2)], [b"wrong"], ()),
        ([unsigned(1)], [b"wrong"], ()),
    ]
    for rows, secrets, wrong in cases:
        verifier = TrailVerifier(1, secrets)
        for row in rows:
            verifier.check(row)
        assert verifier.wrong_secrets == wrong
