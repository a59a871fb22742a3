"""docs/format.md lists the tables whose rows have MACs, with the columns that these cover."""

from __future__ import annotations

import re
from pathlib import Path

from ledger.storage.judged_rows import JUDGED

PAGE = Path(__file__).parents[2] / "docs" / "format.md"


def test_the_page_lists_the_tables_of_the_code() -> None:
    section = PAGE.read_text().split("## Rows that decide")[1].split("\n## ")[0]
    listed = {}
    for table, key, deciding in re.findall(r"^\| `(\w+)` \| (.+); (.+) \|$", section, re.MULTILINE):
        listed[table] = (
            tuple(re.findall(r"`(\w+)`", key)),
            tuple(re.findall(r"`(\w+)`", deciding)),
        )
    assert listed == {table.name: (table.key, table.deciding) for table, _ in JUDGED}
