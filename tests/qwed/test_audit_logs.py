"""QWED's audit routes over a trail: its rows as lists, details and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from tests.qwed_writer import entry, trail
from tests.support.qwed_log import QwedOrg, corrected, imported, verdict
from tests.support.serving import Server

ROWS = trail(3)
BROKEN = replace(ROWS[2], query="altered", columns={})
MEMBERS = [
    "id", "record_id", "request_input", "verification_result", "engine_used", "verdict", "status",
    "admission", "latency_ms", "created_at", "entry_hash", "api_key_id", "verifier_version",
]  # fmt: skip


@pytest.fixture(scope="module")
def org(shared_server: Server) -> QwedOrg:
    """Three imported rows, two verdicts, and other entries between them: seqs 1, 2, 4, 5 and 7."""
    made = QwedOrg(shared_server)
    first, second, third = imported(ROWS)
    made.append({"event_type": "other"})
    made.append(first, second)
    made.append({"event_type": "other", "note": '"event_type":"qwed.imported",'})
    made.append(verdict(1), verdict(2, "refuted", admission="BLOCKED"))
    made.append({"event_type": "qwed.corrected", "action": "qwed:9:9"})
    made.append(third)
    return made


def test_rows_are_listed_newest_first_in_qwed_s_shape(org: QwedOrg) -> None:
    page = org.json("/audit/logs")
    assert list(page) == ["total", "next_before", "logs"]
    assert (page["total"], page["next_before"]) == (5, None)
    assert [row["id"] for row in page["logs"]] == [7, 5, 4, 2, 1]
    assert all(list(row) == MEMBERS for row in page["logs"])
    newest, refuted = page["logs"][:2]
    assert newest | {"id": 0, "record_id": "", "entry_hash": ""} == {
        "id": 0,
        "record_id": "",
        "request_input": "what is 2 + 2?",
        "verification_result": '{"value": 4}',
        "engine_used": "math",
        "verdict": "VERIFIED",
        "status": "VERIFIED",
        "admission": None,
        "latency_ms": 0,
        "created_at": "2026-05-08T00:00:03.000000Z",
        "entry_hash": "",
        "api_key_id": None,
        "verifier_version": None,
    }
    assert refuted["request_input"] == '{"expression":"2 + 1"}'
    assert refuted["verification_result"] == '{"verdict":"REFUTED"}'
    assert (refuted["verdict"], refuted["status"]) == ("REFUTED", "REFUTED")
    assert (refuted["engine_used"], refuted["admission"]) == ("math", "BLOCKED")
    assert refuted["api_key_id"] == "9f86d081884c7d65"
    assert datetime.fromisoformat(refuted["created_at"]).tzinfo is not None


def test_pages_have_every_row_once(org: QwedOrg) -> None:
    for limit in (1, 2, 3, 200):
        assert [row["id"] for row in org.logs(f"limit={limit}")] == [7, 5, 4, 2, 1]
    assert org.json("/audit/logs?before=0") == {"total": 5, "next_before": None, "logs": []}
    page = org.json("/audit/logs?limit=2&before=5")
    assert ([row["id"] for row in page["logs"]], page["next_before"]) == ([4, 2], 2)


def test_rows_are_filtered_by_their_status(org: QwedOrg) -> None:
    assert [row["id"] for row in org.logs("limit=1&status=REFUTED")] == [5]
    assert [row["id"] for row in org.logs("status=VERIFIED")] == [7, 4, 2, 1]
    assert org.logs("status=verified") == []
    assert org.json("/audit/logs?status=VERIFIED")["total"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "before=-1", "limit=x", "other=1"])
def test_a_wrong_parameter_is_refused(org: QwedOrg, query: str) -> None:
    assert org.get(f"/audit/logs?{query}").status == 400


def test_a_row_is_shown_with_what_proves_it(org: QwedOrg) -> None:
    listed = {row["id"]: row for row in org.logs()}
    detail = org.json("/audit/logs/2")
    assert list(detail) == [*MEMBERS, "previous_hash", "hmac_signature", "imported"]
    assert {name: detail[name] for name in MEMBERS} == listed[2]
    assert detail["previous_hash"] == listed[1]["entry_hash"]
    assert detail["imported"] == {
        "organization_id": 1,
        "row_id": 2,
        "outcome": "valid",
        "entry_hash": ROWS[1].entry_hash,
        "previous_hash": ROWS[0].entry_hash,
        "hmac_signature": ROWS[1].hmac_signature,
    }
    assert org.json(f"/audit/logs/{listed[4]['record_id']}")["imported"] is None
    entry = org.json(f"/v1/orgs/{org.slug}/entries/{listed[4]['record_id']}")
    assert org.json("/audit/logs/4")["hmac_signature"] == entry["signature"]


@pytest.mark.parametrize("name", ["0", "3", "6", "8", "99999999999999999999", "rec_0", "-1", "%00"])
def test_what_is_no_row_is_not_found(org: QwedOrg, name: str) -> None:
    answer = org.get(f"/audit/logs/{name}")
    assert answer.status in (400, 404) if name == "%00" else answer.status == 404


def test_a_broken_row_says_so_until_it_is_corrected(shared_server: Server) -> None:
    org = QwedOrg(shared_server)
    events = imported([*ROWS[:2], BROKEN])
    receipts = org.append(*events)
    (row,) = org.logs("status=BROKEN")
    assert (row["verdict"], row["admission"]) == (None, None)
    assert org.json("/audit/logs/2")["imported"]["outcome"] == "broken"
    org.append(corrected(ROWS[2], ROWS, receipts[2]["record_id"]))
    assert org.json("/audit/logs/2")["imported"]["outcome"] == "valid"
    assert org.logs("status=BROKEN") == []


def test_the_export_is_csv_that_no_spreadsheet_calculates(shared_server: Server) -> None:
    org = QwedOrg(shared_server)
    rows = [entry(row_id=1, query='=HYPERLINK("http://x")')]
    rows.append(entry(str(rows[0].entry_hash), row_id=2, query='two\nlines, "quoted"'))
    org.append(*imported(rows), verdict(3))
    answer = org.get("/audit/export")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert f'filename="audit-{org.slug}.csv"' in answer.headers["content-disposition"]
    lines = list(csv.reader(io.StringIO(answer.body.decode(), newline="")))
    assert lines[0] == ["Timestamp", "Request Input", "Verification Result", "Engine", "Status"]
    assert [line[1] for line in lines[1:]] == [
        '{"expression":"3 + 1"}',
        'two\nlines, "quoted"',
        '\'=HYPERLINK("http://x")',
    ]
    assert lines[3] == [
        "2026-05-08T00:00:01.000000Z", lines[3][1], '{"value": 4}', "math", "VERIFIED",
    ]  # fmt: skip


def test_an_export_of_many_pages_has_every_row(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.qwed.reading.EXPORT_ROWS", 7)
    org = QwedOrg(shared_server)
    org.append(*(verdict(number) for number in range(30)))
    answer = org.get("/audit/export")
    lines = list(csv.reader(io.StringIO(answer.body.decode(), newline="")))[1:]
    assert [line[1] for line in lines] == [
        f'{{"expression":"{number} + 1"}}' for number in reversed(range(30))
    ]


def test_a_count_goes_on_with_the_next_request(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.qwed.reading.COUNTED_AT_ONCE", 2)
    monkeypatch.setattr("server.qwed.reading.COUNTING_READS", 2)
    org = QwedOrg(shared_server)
    org.append(*(verdict(number) for number in range(9)), *imported(ROWS))
    totals = [org.json("/audit/logs?limit=1")["total"] for _ in range(8)]
    assert totals[0] is None
    assert totals[-1] == 12
    org.append(verdict(9))
    assert org.json("/audit/logs?limit=1")["total"] == 13


def test_what_is_sealed_is_shown_to_those_who_may_open_it(shared_server: Server) -> None:
    org = QwedOrg(shared_server, "sealed")
    org.append(*imported(ROWS), verdict(1))
    member, viewer = (shared_server.create_key(org.slug, role) for role in ("member", "viewer"))
    shown = org.json("/audit/logs", member)["logs"]
    assert [row["request_input"] for row in shown][1:] == ["what is 2 + 2?"] * 3
    assert shown[0]["api_key_id"] == "9f86d081884c7d65"
    hidden = org.json("/audit/logs", viewer)["logs"]
    assert [row["id"] for row in hidden] == [3, 2, 1, 0]
    assert all(row["request_input"] is row["verification_result"] is None for row in hidden)
    assert org.json("/audit/logs/0", viewer)["imported"] is None
    assert org.get("/audit/logs?status=VERIFIED", viewer).status == 400
    path = f"/v1/orgs/{org.slug}/erasures"
    erased = shared_server.request("POST", path, {"subject": "qwed:user:7"}, key=org.key)
    assert erased.status == 200, erased.body
    assert {row["request_input"] for row in org.json("/audit/logs")["logs"][1:]} == {None}


READS: dict[str, Callable[[str], str]] = {
    "list": lambda org: f"/audit/logs?organization_id={org}",
    "detail": lambda org: f"/audit/logs/1?organization_id={org}",
    "export": lambda org: f"/audit/export?organization_id={org}",
    "check": lambda org: f"/admin/compliance/verify-trail?organization_id={org}",
}


@pytest.mark.parametrize("route", READS)
def test_a_foreign_org_is_not_found(shared_server: Server, org: QwedOrg, route: str) -> None:
    _, foreign = shared_server.create_org()
    path = READS[route]
    seen, absent = org.get(path(org.slug), foreign), org.get(path("no-such-org"), foreign)
    assert seen.status == absent.status == 404
    assert seen.body.replace(org.slug.encode(), b"no-such-org") == absent.body
    assert org.get(path(org.slug)).status == 200
    assert org.get(path(org.slug), shared_server.platform_key).status == 200
    unnamed = path("").partition("?")[0]
    assert org.get(unnamed).status == 200
    assert org.get(unnamed, shared_server.platform_key).status == 400
