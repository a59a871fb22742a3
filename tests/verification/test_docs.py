"""docs/verification.md names every kind of fault and the checks it fails, and no other."""

import re
from pathlib import Path

from ledger.core.verification.faults import CHECKS, CHECKS_OF_KIND

PAGE = (Path(__file__).parents[2] / "docs" / "verification.md").read_text()


def test_the_table_of_kinds_is_the_codes() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([a-z_, ]+) \| ", PAGE, re.MULTILINE)
    kinds = {kind: tuple(checks.split(", ")) for kind, checks in rows if kind not in CHECKS}
    assert kinds == CHECKS_OF_KIND


def test_the_table_of_checks_is_the_codes() -> None:
    table = PAGE.split("## The result")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == CHECKS
