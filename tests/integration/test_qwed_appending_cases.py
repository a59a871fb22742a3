"""The published appending cases of QWED's audit log, on real servers.

tests/unit/test_qwed_trail_cases.py has the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.blocks import flip
from tests.support.cases import read_cases
from tests.support.serving import Server
from tests.support.tampering import change, tamper

CASES: dict[str, Any] = {case["id"]: case for case in read_cases("audit_cases.jsonl")}
StartServer = Callable[..., Server]


def append(server: Server, org: str, key: str, note: str) -> Any:
    answer = server.request("POST", f"/v1/orgs/{org}/entries", {"note": note}, key=key)
    return answer.status, answer.json()


def test_two_servers_append_to_one_trail_in_turns(start_servers: StartServer) -> None:
    case = CASES["audit-0026"]
    assert case["expected"]["A second append"].startswith("ok")
    servers = {"A": start_servers(), "B": start_servers()}
    org, key = servers["A"].create_org("plain")
    receipts = []
    for step in case["input"]["steps"]:
        status, receipt = append(servers[step.removesuffix(".log")], org, key, step)
        assert status == 201
        receipts.append(receipt)
    assert [receipt["seq"] for receipt in receipts] == [0, 1, 2]
    hashes = [receipt["entry_hash"] for receipt in receipts]
    assert [receipt["previous_hash"] for receipt in receipts] == [None, *hashes[:2]]


# What QWED keeps in one hashed row, Quire keeps in these columns.
@pytest.mark.parametrize("column", ["leaf", "payload", "entry_hash", "signature"])
async def test_a_head_that_was_tampered_with_takes_no_append(
    shared_server: Server, column: str
) -> None:
    assert CASES["audit-0016"]["expected"]["raises"] == "SecurityError"
    org, key = shared_server.create_org("plain")
    assert append(shared_server, org, key, "honest")[0] == 201
    tamper(shared_server.database, org, change(flip, 0, column, 20))
    status, problem = append(shared_server, org, key, "after")
    assert (status, problem["type"]) == (423, "https://quire.dev/problems/org-frozen")
    head = shared_server.request("GET", f"/v1/orgs/{org}/head", key=key).json()
    assert head["seq"] == 0
