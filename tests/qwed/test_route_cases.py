"""The published cases of QWED's audit log that its routes over a trail must meet.

tests/unit/test_qwed_trail_cases.py and tests/integration/test_qwed_appending_cases.py have the others.
"""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest

from tests.qwed_writer import entry, trail
from tests.support.blocks import cut
from tests.support.cases import read_cases
from tests.support.qwed_log import QwedOrg, imported
from tests.support.serving import Server
from tests.support.signed_trees import SignedTrees
from tests.support.tampering import Tampering, change, tamper

CASES: dict[str, Any] = {
    case["id"]: case
    for name in ("audit_cases.jsonl", "compliance_cases.jsonl")
    for case in read_cases(name)
}
PATH = "/admin/compliance/verify-trail"


def signed_org(server: Server, *events: dict[str, Any]) -> QwedOrg:
    org = QwedOrg(server)
    org.append(*events)
    SignedTrees(server).sign()
    return org


def test_a_trail_that_holds_counts_all_entries_as_verified(shared_server: Server) -> None:
    case = CASES["audit-0023"]
    expected = case["expected"]
    found = signed_org(shared_server, *imported(trail(case["input"]["entries"]))).json(PATH)
    assert (found["status"] == "VERIFIED") is expected["valid"]
    assert found["total_entries"] == expected["total_entries"]
    assert found["verified_entries"] == expected["verified_entries"]
    assert found["failed_entries"] == len(expected["failed_entries"])
    assert found["errors"] == expected["errors"]


@pytest.mark.parametrize(
    ("case", "damage"), [("audit-0030", change(cut, 3)), ("audit-0031", change(cut, 0))]
)
def test_what_was_cut_is_detected(shared_server: Server, case: str, damage: Tampering) -> None:
    assert CASES[case]["expected"] == {"detected": True}
    org = signed_org(shared_server, *imported(trail(5)))
    tamper(shared_server.database, org.slug, damage)
    found = org.json(PATH)
    assert found["status"] == "NOT_VERIFIED"
    assert found["total_errors"] > 0


def test_a_malformed_row_fails_alone(shared_server: Server) -> None:
    assert "continues" in CASES["audit-0032"]["expected"]["verify_audit_trail"]
    rows = trail(3)
    rows[1] = replace(rows[1], result="{not JSON", columns={})
    found = signed_org(shared_server, *imported(rows)).json(PATH)
    assert (found["total_entries"], found["verified_entries"], found["failed_entries"]) == (3, 2, 1)
    assert found["first_failed_entry_id"] == 1


def test_the_columns_of_the_export(shared_server: Server) -> None:
    answer = signed_org(shared_server, *imported(trail(1))).get("/audit/export")
    lines = list(csv.reader(io.StringIO(answer.body.decode(), newline="")))
    assert lines[0] == CASES["compliance-0469"]["expected"]


def test_a_tampered_row_is_never_exported_as_verified(shared_server: Server) -> None:
    assert CASES["compliance-0471"]["expected"] == {"Hash Chain Valid": "FAILED"}
    rows = [replace(trail(1)[0], query="tampered", columns={})]
    answer = signed_org(shared_server, *imported(rows)).get("/audit/export")
    lines = list(csv.reader(io.StringIO(answer.body.decode(), newline="")))
    assert lines[1][-1] == "BROKEN"


def test_a_formula_is_neutralised(shared_server: Server) -> None:
    case = CASES["compliance-0472"]
    assert case["expected"] == {"cell": "neutralised"}
    query = case["input"]["query"]
    answer = signed_org(shared_server, *imported([entry(query=query)])).get("/audit/export")
    lines = list(csv.reader(io.StringIO(answer.body.decode(), newline="")))
    assert lines[1][1] == f"'{query}"
