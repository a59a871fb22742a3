"""Random QWED trails of each form verify, and each of their one-byte changes is located.

``QWED_TRAILS`` is the number of trails of each form: 1000 for a long run of some
minutes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from ledger.qwed import QwedReport, QwedRow, verify_row, verify_trail
from tests import qwed_random

TRAILS: Final = int(os.environ.get("QWED_TRAILS", "4"))
SECRET: Final = b"random-trails-value"
UNCOVERED: Final = {"id"}
"""Columns that no form hashes. The order of the links fixes the id."""


def verified(rows: list[dict[str, Any]]) -> QwedReport:
    return verify_trail(map(QwedRow.from_columns, rows), 1, [SECRET])


def trails(form: str, count: int = TRAILS) -> Iterator[tuple[Random, list[dict[str, Any]]]]:
    for number in range(count):
        random = Random(f"{form} {number}")
        yield random, qwed_random.trail(random, form, SECRET)


def test_the_writer_shares_no_code_with_the_reader() -> None:
    assert "ledger" not in Path(qwed_random.__file__).read_text("utf-8")


@pytest.mark.parametrize("form", qwed_random.FORMS)
def test_random_trails_verify_and_name_their_form(form: str) -> None:
    for _, rows in trails(form, max(TRAILS, 100)):
        report = verified(rows)
        assert (report.verdict, report.errors, report.warnings) == ("verified", [], [])
        assert {name: found for name, found in report.forms.items() if found} == {form: len(rows)}


@pytest.mark.parametrize("form", qwed_random.FORMS)
def test_each_one_byte_change_is_located(
    form: str, record_property: Callable[[str, object], None]
) -> None:
    changes = sum(located_changes(random, rows, form) for random, rows in trails(form))
    record_property("one_byte_changes", changes)  # for the report of --junitxml


def located_changes(random: Random, rows: list[dict[str, Any]], form: str) -> int:
    """Check that each one-byte change of a trail is found in its row; returns their number.

    The verdicts on earlier rows do not depend on a changed row, so it is the first
    row that a report on the whole trail names.
    """
    changes, previous = 0, None
    for row in rows:
        for changed in one_byte_changes(random, row, form):
            verdict = verify_row(QwedRow.from_columns(changed), previous, [SECRET])
            # The text of a result can change without its value: that is a warning.
            assert not verdict.valid or verdict.warnings, difference(row, changed)
            changes += 1
        previous = QwedRow.from_columns(row)
    return changes


def test_a_change_is_the_first_fault_that_a_report_names() -> None:
    for random, rows in trails("admission", 3):
        for place, row in enumerate(rows):
            for changed in one_byte_changes(random, row, "admission"):
                report = verified([*rows[:place], changed, *rows[place + 1 :]])
                assert [*report.failed_entries, *_warned(report)][0] == row["id"]


def _warned(report: QwedReport) -> list[int]:
    return [int(warning.split(":")[0].removeprefix("row ")) for warning in report.warnings]


def difference(row: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """The columns that differ, with their values before and after."""
    return {name: (row.get(name), new) for name, new in changed.items() if new != row.get(name)}


def one_byte_changes(random: Random, row: dict[str, Any], form: str) -> Iterator[dict[str, Any]]:
    """The row with each byte of each covered column changed, and with each null replaced."""
    covered = set(row) | set(qwed_random.NEWER)
    covered -= UNCOVERED | ({"raw_llm_output"} if form == "legacy" else set())
    for column in sorted(covered):
        stored = row.get(column)
        for value in ["7", 7] if stored is None else other_values(random, stored):
            yield row | {column: value}


def other_values(random: Random, stored: Any) -> Iterator[Any]:
    """The value with one byte changed, for each of its bytes; numbers by their digits."""
    if isinstance(stored, int):
        for place, digit in enumerate(str(stored)):
            other = random.choice([other for other in "123456789" if other != digit])
            yield int(str(stored)[:place] + other + str(stored)[place + 1 :])
        return
    for place in range(len(stored.encode())):
        raw = bytearray(stored.encode())
        raw[place] ^= random.randrange(1, 256)
        try:
            yield raw.decode()
        except UnicodeDecodeError:
            yield bytes(raw)  # as a source returns text that is not UTF-8
