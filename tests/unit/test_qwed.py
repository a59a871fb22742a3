"""Single QWED rows: both forms, every check, and every change found."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import MissingKey
from ledger.event import parse_json
from ledger.qwed import (
    MalformedQwedRow,
    QwedRow,
    QwedVerdict,
    canonical_json,
    imported_event,
    iso_time,
    usable_secrets,
    verify_row,
)
from tests.qwed_writer import COLUMNS, SECRET, entry, trail, values

MALFORMED = "Audit entry result payload is malformed; cannot verify integrity"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def verify(row: QwedRow, previous: QwedRow | None = None) -> QwedVerdict:
    return verify_row(row, previous, [SECRET])


@given(
    result=json_values,
    query=st.text(),
    raw_llm_output=st.none() | st.text(),
    user_id=st.none() | st.integers(0, 2**31 - 1),
    timestamp=st.datetimes().map(datetime.isoformat),
    form=st.sampled_from(["current", "legacy"]),
)
def test_rows_of_qwed_are_valid_and_name_their_form(form: Any, **fields: Any) -> None:
    verdict = verify(entry(form=form, **fields))
    assert verdict.valid
    assert (verdict.form, verdict.errors, verdict.warnings) == (form, (), ())


HASHED_TEXT = ["query", "result", "domain", "timestamp", "previous_hash", "raw_llm_output"]


@given(
    field=st.sampled_from([*HASHED_TEXT, "entry_hash", "hmac_signature"]),
    result=json_values,
    query=st.text(min_size=1),
    place=st.integers(min_value=0),
    flip=st.integers(1, 255),
)
def test_every_changed_byte_is_found(
    field: str, result: object, query: str, place: int, flip: int
) -> None:
    first = entry()
    row = entry(str(first.entry_hash), row_id=2, result=result, query=query)
    assert verify(row, first).valid
    verdict = verify(_with_changed_byte(row, field, place, flip), first)
    if field == "result" and verdict.valid:
        # White space, or 1E+16 for 1e+16: the hashed value is equal, its text is not.
        assert verdict.warnings
    else:
        assert not verdict.valid
        assert verdict.errors


def changed(row: QwedRow, **fields: Any) -> QwedRow:
    return replace(row, **fields)


def _with_changed_byte(row: QwedRow, field: str, place: int, flip: int) -> QwedRow:
    stored = bytearray(str(getattr(row, field)).encode())
    stored[place % len(stored)] ^= flip
    try:
        return changed(row, **{field: stored.decode()})
    except UnicodeDecodeError:
        return changed(row, **{field: bytes(stored)})  # as a source returns it


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("organization_id", 2),
        ("organization_id", "1"),
        ("user_id", None),
        ("user_id", 8),
        ("is_verified", False),
        ("is_verified", 1),
        ("is_verified", 2),
        ("raw_llm_output", None),
        ("query", b"\xff"),
        ("timestamp", None),
    ],
)
def test_changed_values_fail_the_hash_and_nothing_else(field: str, value: object) -> None:
    verdict = verify(changed(entry(), **{field: value}))
    assert verdict.checks == {"hash_valid": False, "signature_valid": True, "chain_valid": True}
    assert verdict.form is None


def test_the_legacy_form_leaves_the_model_output_open() -> None:
    verdict = verify(changed(entry(form="legacy"), raw_llm_output="anything"))
    assert verdict.valid
    assert verdict.form == "legacy"


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param("{not-json", id="cut"),
        pytest.param("", id="empty"),
        pytest.param(None, id="null"),
        pytest.param(4, id="number"),
        pytest.param(b"\xff", id="bytes"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param("1" * 5_000, id="huge"),
        pytest.param('{"value": 5, "value": 4}', id="twice"),
    ],
)
def test_a_result_that_is_not_json_fails_the_hash_only(stored: Any) -> None:
    verdict = verify(changed(entry(), result=stored))
    assert verdict.checks == {"hash_valid": False, "signature_valid": True, "chain_valid": True}
    assert verdict.errors[0].startswith(MALFORMED)


def test_a_result_written_anew_with_its_value_kept_is_a_warning() -> None:
    verdict = verify(changed(entry(), result='{"value":4}'))
    assert verdict.valid
    assert verdict.warnings == (
        "Result holds the value that was hashed, in text that QWED did not write",
    )


@pytest.mark.parametrize("missing", [None, ""])
def test_a_row_without_hash_has_no_valid_hash_and_no_valid_signature(missing: str | None) -> None:
    verdict = verify(changed(entry(), entry_hash=missing))
    assert verdict.checks == {"hash_valid": False, "signature_valid": False, "chain_valid": True}
    assert verdict.errors == ("Hash missing from audit entry", "HMAC signature invalid")


@pytest.mark.parametrize("signature", [None, "", b"\x00", 5, "é", "\ud800"])
def test_a_signature_of_any_kind_that_is_not_ours_is_invalid(signature: Any) -> None:
    assert verify(changed(entry(), hmac_signature=signature)).errors == ("HMAC signature invalid",)


def test_several_secrets_cover_a_trail_whose_secret_was_changed() -> None:
    old, new = b"old", b"new"
    row = entry(secret=old)
    assert verify_row(row, None, [new, old]).valid
    assert not verify_row(row, None, [new]).valid


@pytest.mark.parametrize("secrets", [[], [b""], [SECRET, b""]])
def test_no_secret_is_refused(secrets: list[bytes]) -> None:
    with pytest.raises(MissingKey, match="QWED_AUDIT_SECRET_KEY"):
        usable_secrets(secrets)


@pytest.mark.parametrize(
    ("stored", "hashed"),
    [
        ("2026-05-08 00:00:00.000000", "2026-05-08T00:00:00"),
        ("2026-05-08 00:00:00", "2026-05-08T00:00:00"),
        ("2026-05-08 01:02:03.000450", "2026-05-08T01:02:03.000450"),
        ("2026-05-08 01:02:03.00045", "2026-05-08T01:02:03.000450"),
        ("2026-05-08T01:02:03Z", "2026-05-08T01:02:03+00:00"),
        ("2026-05-08 01:02:03.5+00", "2026-05-08T01:02:03.500000+00:00"),
        ("2026-05-08 01:02:03+0530", "2026-05-08T01:02:03+05:30"),
        ("2026-13-08 00:00:00", "2026-13-08 00:00:00"),
        ("infinity", "infinity"),
        ("", ""),
    ],
)
def test_stored_times_become_the_hashed_form(stored: str, hashed: str) -> None:
    assert iso_time(stored) == hashed


@pytest.mark.parametrize(
    ("hashed", "stored"),
    [
        ("2026-05-08T00:00:01+00:00", "2026-05-08 00:00:01.000000"),
        ("2026-05-08T00:00:01", "2026-05-08 00:00:01+00"),
    ],
)
def test_a_column_that_lost_or_gained_the_zone_still_verifies(hashed: str, stored: str) -> None:
    columns = _columns(entry(timestamp=hashed)) | {"timestamp": stored}
    assert verify(QwedRow.from_columns(columns)).valid
    other_hour = columns | {"timestamp": stored.replace("00:00:01", "01:00:01")}
    assert not verify(QwedRow.from_columns(other_hour)).hash_valid


def test_a_value_that_is_not_json_is_refused_with_its_own_error() -> None:
    with pytest.raises(MalformedQwedRow, match="datetime"):
        canonical_json({"result": datetime.now(UTC)})


@pytest.mark.parametrize("lost", ["id", "entry_hash", "query"])
def test_a_table_without_a_needed_column_is_refused(lost: str) -> None:
    columns = _columns(entry())
    del columns[lost]
    with pytest.raises(MalformedQwedRow, match=lost):
        QwedRow.from_columns(columns)


def test_the_oldest_tables_have_no_column_for_the_model_output() -> None:
    columns = _columns(entry(form="legacy"))
    del columns["raw_llm_output"]
    assert verify(QwedRow.from_columns(columns)).form == "legacy"


def _columns(row: QwedRow) -> dict[str, Any]:
    return dict(zip(COLUMNS, values(row), strict=True))


def _as_stored(row: QwedRow, **others: Any) -> QwedRow:
    return QwedRow.from_columns(_columns(row) | others)


def test_an_imported_event_keeps_the_row_so_that_it_verifies_again() -> None:
    first, second = trail(2)
    row = _as_stored(second, note="a column QWED does not know")
    verdict = verify(row, first)
    event = imported_event(1, row, verdict)
    payload = msgspec.json.encode(event)
    assert payload == msgspec.json.encode(imported_event(1, row, verify(row, first)))
    parsed, _ = parse_json(payload, max_events=1, max_payload=len(payload))
    assert msgspec.structs.asdict(parsed[0].fields) == {
        "event_type": "qwed.imported",
        "actor": "qwed:user:7",
        "action": "qwed:1:2",
        "outcome": "valid",
        "subject": "qwed:user:7",
        "timestamp": "2026-05-08T00:00:02Z",
        "data_classification": None,
        "legal_basis": None,
        "unique_key": "qwed:1:2",
    }
    kept = json.loads(payload)["qwed"]
    assert kept["form"] == "current"
    assert (kept["entry_hash"], kept["hmac_signature"]) == (row.entry_hash, row.hmac_signature)
    assert kept["row"] == row.columns
    assert verify(QwedRow.from_columns(kept["row"]), first) == verdict


@pytest.mark.parametrize(
    ("stored", "read_back"),
    [
        ({"query": b"\xff\x00"}, {"base64": "/wA="}),
        ({"query": float("inf")}, {"float": "inf"}),
        ({"query": "\x00\u2028\U0001f600"}, "\x00\u2028\U0001f600"),
        ({"query": 2**63 - 1}, 2**63 - 1),
    ],
)
def test_a_broken_row_is_carried_on_as_it_is(stored: dict[str, Any], read_back: object) -> None:
    row = _as_stored(entry(), **stored)
    event = json.loads(msgspec.json.encode(imported_event(1, row, verify(row))))
    assert event["outcome"] == "broken"
    assert event["qwed"]["row"]["query"] == read_back
    assert event["qwed"]["verdict"]["checks"]["hash_valid"] is False


@pytest.mark.parametrize("timestamp", [None, 5, "soon", "2026-05-08\n00:00:00"])
def test_an_invalid_time_is_not_put_in_the_leaf(timestamp: Any) -> None:
    row = _as_stored(entry(), timestamp=timestamp)
    event = imported_event(1, row, verify(row))
    assert event["timestamp"] in (None, "2026-05-08T00:00:00Z")
    body = msgspec.json.encode(event)
    parse_json(body, max_events=1, max_payload=len(body))


@pytest.mark.parametrize("user_id", [None, "7", True, "a\nb"])
def test_only_a_real_user_id_names_an_actor(user_id: Any) -> None:
    row = _as_stored(entry(), user_id=user_id)
    event = imported_event(1, row, verify(row))
    assert (event["actor"], event["subject"]) == (None, None)
