"""docs/verification.md names exactly the kinds of fault, each with the checks that it fails."""

import re
from pathlib import Path

from ledger.core.verification.work.faults import CHECKS, CHECKS_OF_KIND
from ledger.verdict import NO_VERDICT_EXIT, Verdict

PAGE = (Path(__file__).parents[2] / "docs" / "verification.md").read_text()


def test_the_table_of_kinds_is_the_codes() -> None:
    table = PAGE.split("## Kinds of fault")[1]
    rows = re.findall(r"^\| `(\w+)` \| ([a-z_, ]+|–) \| ", table, re.MULTILINE)
    kinds = {kind: tuple(checks.replace("–", "").split(", ")) for kind, checks in rows}
    kinds = {kind: tuple(filter(None, checks)) for kind, checks in kinds.items()}
    assert kinds == CHECKS_OF_KIND


def test_the_table_of_checks_is_the_codes() -> None:
    table = PAGE.split("## What is checked")[1].split("## The result")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == CHECKS


def test_the_table_of_words_is_the_codes() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (\d) \|$", PAGE, re.MULTILINE)
    assert rows == [(verdict.value, str(verdict.exit_code)) for verdict in Verdict]
    assert f"| {NO_VERDICT_EXIT} |" in PAGE
