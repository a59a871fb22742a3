"""The cases of module ``audit`` in soundness_cases.jsonl: QWED 8 trails and their verdicts.

``CASES_DIR`` names another folder with a file of the same name and form.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from ledger.qwed import QwedReport, QwedRow, TrailEnd, verify_trail

_OWN_CASES: Final = Path(__file__).parents[1] / "vectors" / "qwed"
_FILE: Final = Path(os.environ.get("CASES_DIR") or _OWN_CASES) / "soundness_cases.jsonl"
CASES: Final[list[dict[str, Any]]] = [
    case
    for case in map(json.loads, filter(str.strip, _FILE.read_text("utf-8").splitlines()))
    if case["module"] == "audit"
]
VERDICTS: Final = {"verified": "VERIFIED", "refuted": "REFUTED", "incomplete": "UNVERIFIABLE"}


def verified(given: dict[str, Any]) -> QwedReport:
    """The report over the trail of a case."""
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
