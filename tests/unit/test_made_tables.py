"""The documentation's tables that are generated from the code, and other statements about it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from server.app import reference
from server.app.features import FEATURES
from server.feature import DataFile, Feature
from server.settings import KEY_ALIASES, Settings, documented
from server.settings.data_dir import LOCK_NAME

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {path.name: path.read_text() for path in DOCS.glob("*.md")}
TABLES = ("settings", "metrics", "data-directory", "rights", "entry-kinds", "own-entries")


def test_no_table_is_stale() -> None:
    # In a process of its own: a domain that another test plugs in adds metrics here.
    check = [sys.executable, "-m", "server.app.reference", "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_on_one_page(name: str) -> None:
    pages = [page for page in PAGES.values() if f"<!-- made by make docs: {name} -->\n| " in page]
    assert len(pages) == 1


def test_all_tables_are_made() -> None:
    assert tuple(reference.tables()) == TABLES


def test_a_stale_page_is_named_with_the_command(tmp_path: Path) -> None:
    page = tmp_path / "settings.md"
    page.write_text("a\n<!-- made by make docs: settings -->\nold\n<!-- end of settings -->\nb\n")
    (found,) = reference.stale(tmp_path, {"settings": "new\n"}).items()
    assert found == (page, page.read_text().replace("old", "new"))
    page.write_text(found[1])
    assert reference.stale(tmp_path, {"settings": "new\n"}) == {}


def test_a_region_of_an_unknown_table_is_refused() -> None:
    with pytest.raises(KeyError, match="others"):
        reference.filled("<!-- made by make docs: others -->\n<!-- end of others -->\n", {})


def test_a_domain_brings_its_own_rows() -> None:
    domain = Feature(name="more", data_files=(DataFile("more.key", "One more."),))
    made = reference.tables((*FEATURES, domain))
    assert made["data-directory"].endswith("| `more.key` | One more. |\n")
    assert all(f"| `{row.name}` | " in made["settings"] for row in documented())


def test_the_data_files_have_the_names_that_the_code_uses() -> None:
    files = {file.name for feature in FEATURES for file in feature.data_files}
    settings = Settings()
    keys = (settings.master_key_path, settings.signing_keyring_path, settings.log_keys_path)
    assert {LOCK_NAME, *(path.name for path in keys)} <= files


def test_other_names_of_the_signing_key_are_on_the_page() -> None:
    assert all(f"`{alias}`" in PAGES["settings.md"] for alias in KEY_ALIASES)
