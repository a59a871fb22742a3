"""docs/verify-offline.md names exactly the checks and exit codes of quire-verify."""

import re
from pathlib import Path

from ledger.evidence.trust import Trust
from ledger.evidence.verdict import CHECKS
from ledger.verdict import NO_VERDICT_EXIT, Verdict

PAGE = (Path(__file__).parents[2] / "docs" / "verify-offline.md").read_text()


def test_the_table_of_checks_is_the_code_s() -> None:
    assert tuple(re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE)) == CHECKS


def test_the_exit_codes_are_the_code_s() -> None:
    rows = re.findall(r"^\| (\d) \| (?:`(\w+)`|no verdict):", PAGE, re.MULTILINE)
    codes = {str(verdict.exit_code): verdict.value for verdict in Verdict}
    assert dict(rows) == codes | {str(NO_VERDICT_EXIT): ""}


def test_the_checks_that_are_always_asked_for_are_named() -> None:
    (sentence,) = re.findall(r"^Asked for are (.+?), always;", PAGE, re.MULTILINE)
    assert set(re.findall(r"`([a-z_]+)`", sentence)) == set(Trust().asked)
