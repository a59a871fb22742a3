"""GET /admin/compliance/verify-trail: only what was checked and holds is called verified."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.qwed_writer import trail
from tests.support.blocks import cut, flip, remove
from tests.support.qwed_log import QwedOrg, corrected, imported, verdict
from tests.support.serving import Server
from tests.support.signed_trees import SignedTrees
from tests.support.tampering import change, tamper

PATH = "/admin/compliance/verify-trail"
MEMBERS = [
    "organization_id", "start", "end", "status", "proof_ref", "evidence", "scope",
    "total_entries", "verified_entries", "failed_entries", "first_failed_entry_id",
    "legacy_entries", "errors", "total_errors", "errors_truncated",
]  # fmt: skip
EVIDENCE = [
    "organization_id", "period_start", "period_end", "first_entry_id", "last_entry_id", "entries",
    "head_hash",
]  # fmt: skip
ROWS = trail(3)


@pytest.fixture(scope="module")
def signing(shared_server: Server) -> SignedTrees:
    return SignedTrees(shared_server)


def org_with(server: Server, *events: dict[str, Any]) -> QwedOrg:
    org = QwedOrg(server)
    if events:
        org.append(*events)
    return org


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    return (
        found["total_entries"],
        found["verified_entries"],
        found["failed_entries"],
        found["legacy_entries"],
    )


def test_a_trail_that_holds_is_verified(shared_server: Server, signing: SignedTrees) -> None:
    org = org_with(shared_server, {"event_type": "other"}, *imported(ROWS), verdict(1))
    signing.sign()
    found = org.json(PATH)
    assert found["errors"] == []
    assert list(found) == MEMBERS
    assert list(found["evidence"]) == EVIDENCE
    assert found["status"] == "VERIFIED"
    assert counts(found) == (4, 4, 0, 0)
    newest = org.json("/audit/logs/4")
    assert found["evidence"] == {
        "organization_id": org.slug,
        "period_start": None,
        "period_end": None,
        "first_entry_id": 1,
        "last_entry_id": 4,
        "entries": 4,
        "head_hash": newest["entry_hash"],
    }
    canonical = json.dumps(found["evidence"], sort_keys=True, separators=(",", ":")).encode()
    assert found["proof_ref"] == f"sha256:{hashlib.sha256(canonical).hexdigest()}"
    assert "entries 0 to 4" in found["scope"]


def test_the_period_is_that_of_the_rows(shared_server: Server, signing: SignedTrees) -> None:
    org = org_with(shared_server, *imported(ROWS), verdict(1))
    signing.sign()
    found = org.json(f"{PATH}?start=2026-05-08T00:00:02Z&end=2026-05-08")
    assert (found["status"], counts(found)) == ("VERIFIED", (2, 2, 0, 0))
    assert found["start"] == "2026-05-08T00:00:02.000000Z"
    assert found["end"] == "2026-05-08T23:59:59.999999Z"
    today = (datetime.now(UTC) - timedelta(days=1)).date()
    found = org.json(f"{PATH}?start={today}")
    assert (found["evidence"]["first_entry_id"], counts(found)) == (3, (1, 1, 0, 0))
    found = org.json(f"{PATH}?end=2020-01-01")
    assert (found["status"], found["proof_ref"], counts(found)) == (
        "NO_ENTRIES",
        None,
        (0, 0, 0, 0),
    )


@pytest.mark.parametrize("query", ["start=x", "end=2026-13-01", "start=2026-02-01&end=2026-01-01"])
def test_a_wrong_period_is_refused(shared_server: Server, query: str) -> None:
    assert org_with(shared_server).get(f"{PATH}?{query}").status == 400


def test_a_trail_that_never_had_an_entry_has_none(shared_server: Server) -> None:
    found = org_with(shared_server).json(PATH)
    assert (found["status"], found["errors"]) == ("NO_ENTRIES", [])


BROKEN = replace(ROWS[2], query="altered", columns={})
UNSIGNED = replace(
    trail(1)[0], entry_hash=None, hmac_signature=None, previous_hash=None, columns={}
)


def test_a_broken_row_is_not_verified_until_it_is_corrected(
    shared_server: Server, signing: SignedTrees
) -> None:
    org = QwedOrg(shared_server)
    receipts = org.append(*imported([*ROWS[:2], BROKEN]))
    signing.sign()
    found = org.json(PATH)
    assert (found["status"], counts(found)) == ("NOT_VERIFIED", (3, 2, 1, 0))
    assert found["first_failed_entry_id"] == 2
    assert found["errors"] == ["entry 2: the imported row is broken"]
    org.append(corrected(ROWS[2], ROWS, receipts[2]["record_id"]))
    signing.sign()
    assert org.json(PATH)["status"] == "VERIFIED"


def test_rows_without_hash_are_not_called_verified(
    shared_server: Server, signing: SignedTrees
) -> None:
    org = org_with(shared_server, *imported([UNSIGNED]), verdict(1))
    signing.sign()
    found = org.json(PATH)
    assert (found["status"], counts(found)) == ("NOT_VERIFIED", (2, 1, 0, 1))
    assert "nothing to check" in found["errors"][0]


DAMAGE = {
    "a row of the period": (change(flip, 2, "payload", 20), True),
    "a row that can't be read": (change(flip, 2, "leaf", 20), False),
    "an entry outside the period": (change(flip, 0, "leaf", 20), False),
    "an entry was removed": (change(remove, 2), False),
    "the tail was cut": (change(cut, 2), False),
    "all entries are gone": (change(cut, 0), False),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_changed_trail_is_not_verified(
    shared_server: Server, signing: SignedTrees, case: str
) -> None:
    damage, of_row = DAMAGE[case]
    org = org_with(shared_server, {"event_type": "other"}, *imported(ROWS))
    signing.sign()
    tamper(shared_server.database, org.slug, damage)
    found = org.json(f"{PATH}?start=2026-05-08&end=2026-05-08")
    assert found["status"] == "NOT_VERIFIED"
    assert found["proof_ref"] is None
    assert found["total_errors"] == len(found["errors"]) > 0
    assert found["verified_entries"] == 0, "nothing of a trail with faults is called verified"
    assert found["failed_entries"] == int(of_row)


def test_an_unfinished_verification_verifies_nothing(
    shared_server: Server, signing: SignedTrees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.qwed.checking.WAIT_S", 0.0)
    org = org_with(shared_server, *imported(ROWS))
    signing.sign()
    found = org.json(PATH)
    assert (found["status"], counts(found)) == ("NOT_VERIFIED", (3, 0, 0, 0))
    assert "goes on" in found["errors"][0]


def test_a_trail_that_is_too_long_to_read_is_not_verified(
    shared_server: Server, signing: SignedTrees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.qwed.checking.READS", 2)
    monkeypatch.setattr("server.qwed.checking.PAGE_ROWS", 1)
    org = org_with(shared_server, *imported(ROWS))
    signing.sign()
    found = org.json(PATH)
    assert found["status"] == "NOT_VERIFIED"
    assert "more entries than one request reads" in found["errors"][0]


def test_only_the_first_errors_are_listed(shared_server: Server, signing: SignedTrees) -> None:
    rows = [replace(row, query="altered", columns={}) for row in trail(25)]
    org = org_with(shared_server, *imported(rows))
    signing.sign()
    found = org.json(PATH)
    assert (len(found["errors"]), found["total_errors"], found["errors_truncated"]) == (
        20,
        25,
        True,
    )
    assert found["failed_entries"] == 25
