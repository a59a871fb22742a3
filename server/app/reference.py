"""The tables of the documentation that are made from the code: ``python -m server.app.reference``.

A page has a marked region for each table: a line ``<!-- made by make docs: NAME -->``, the table,
and a line ``<!-- end of NAME -->``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from server import metrics
from server.access.rights import rights, table
from server.app.features import FEATURES
from server.app.own_entries import own_entries
from server.feature import Feature, added_settings
from server.settings import documented

COMMAND: Final = "make docs"
DOCS: Final = Path(__file__).parents[2] / "docs"
REGION: Final = re.compile(
    rf"(<!-- made by {COMMAND}: ([\w-]+) -->\n)(.*?)(<!-- end of \2 -->\n)", re.DOTALL
)


def tables(features: Sequence[Feature] = FEATURES) -> dict[str, str]:
    """Every table by the name of its region."""
    return {
        "settings": _table(("setting", "default", "meaning"), _settings(features)),
        "metrics": _table(("metric", "type", "meaning"), _metrics(features)),
        "data-directory": _table(
            ("name", "content"),
            [(f"`{file.name}`", file.content) for each in features for file in each.data_files],
        ),
        "rights": _table(*table(rights())),
        "entry-kinds": _table(
            ("event type", "meaning"),
            [(f"`{kind.event_type}`", kind.says) for each in features for kind in each.entry_kinds],
        ),
        "own-entries": own_entries([kind for each in features for kind in each.entry_kinds]),
    }


def filled(page: str, made: Mapping[str, str]) -> str:
    """The page with its regions made anew. Raises KeyError for the region of an unknown table."""
    return REGION.sub(lambda region: f"{region[1]}{made[region[2]]}{region[4]}", page)


def stale(folder: Path, made: Mapping[str, str]) -> dict[Path, str]:
    """The pages of a folder whose regions differ from the code, with the text they should have."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))}
    new = {path: filled(page, made) for path, page in pages.items()}
    return {path: page for path, page in new.items() if page != pages[path]}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:], ""])


def _settings(features: Sequence[Feature]) -> list[tuple[str, ...]]:
    return [
        (f"`{row.name}`", row.default and f"`{row.default}`", row.description)
        for row in documented(added_settings(features))
    ]


def _metrics(features: Sequence[Feature]) -> list[tuple[str, ...]]:
    """Return the metrics of the registry with all features imported; counters end in _total."""
    for module in (name for feature in features for name in feature.metrics):
        import_module(module)
    return [
        (f"`{each.name}{'_total' * (each.type == 'counter')}`", each.type, each.documentation)
        for each in metrics.REGISTRY.collect()
    ]


def main() -> int:
    """Write the regions of all pages; with --check write nothing and exit 1 where one is stale."""
    parser = argparse.ArgumentParser(prog="python -m server.app.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check = parser.parse_args().check
    found = stale(DOCS, tables())
    for path, page in found.items():
        if check:
            sys.stderr.write(f"docs/{path.name} differs from the code; run: {COMMAND}\n")
        else:
            path.write_text(page, encoding="utf-8")
            sys.stdout.write(f"docs/{path.name}\n")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
