"""The cases of module ``audit`` in soundness_cases.jsonl: QWED 8 trails and their verdicts.

``CASES_DIR`` names another folder with a file of the same name and form.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from ledger.qwed import QwedReport, QwedRow, TrailEnd, verify_trail
from tests.support.cases import read_cases

CASES: Final = [case for case in read_cases("soundness_cases.jsonl") if case["module"] == "audit"]
VERDICTS: Final = {"verified": "VERIFIED", "refuted": "REFUTED", "incomplete": "UNVERIFIABLE"}


def verified(given: dict[str, Any]) -> QwedReport:
    """The report on a case's trail."""
    end = TrailEnd(given.get("expect_count"), given.get("expect_head"))
    rows = map(QwedRow.from_columns, given["rows"])
    return verify_trail(rows, given["organization_id"], [given["secret"].encode()], end)


def test_the_file_has_cases() -> None:
    assert CASES


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES])
def test_the_verdict_is_right(case: dict[str, Any]) -> None:
    assert case["op"] == "verify_qwed_trail"
    report, expected = verified(case["input"]), dict(case["expected"])
    verdict = VERDICTS[report.verdict]
    assert verdict in expected.pop("verdict_in", [verdict])
    assert verdict == expected.pop("verdict", verdict)
    assert {name: getattr(report, name) for name in expected} == expected
    assert report.valid == (verdict == "VERIFIED")
