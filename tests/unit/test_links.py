"""Every link between pages of the repository leads to an existing page and heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "tests/README.md", "bench/README.md", "migrations/*.md")
    for path in ROOT.glob(pattern)
)


def prose(page: Path) -> str:
    return re.sub(r"^```.+?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, in GitHub's form."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"\[(.+?)\]\(.+?\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", prose(ROOT / page)):
        target = (ROOT / page.parent / link) if link else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page}: {link}#{anchor}"


def test_the_list_of_pages_has_them_all() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "README.md").read_text()))
    assert listed == {page.name for page in PAGES if page.parent.name == "docs"} - {"README.md"}


@pytest.mark.parametrize(
    "drawing", sorted((ROOT / "docs").glob("*.svg")), ids=lambda path: path.name
)
def test_a_drawing_is_on_a_page_and_says_what_it_shows(drawing: Path) -> None:
    assert f"({drawing.name})" in (ROOT / "docs" / "architecture.md").read_text()
    text = drawing.read_text()
    assert "<title" in text
    assert "<desc" in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != Path("CHANGELOG.md")], ids=str
)  # it names files of earlier versions too
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    text = (ROOT / page).read_text()
    named = re.findall(r"`((?:ledger|server|tests|bench|migrations)/[\w/.-]+)`", text)
    made = "bench/results/"  # by a run of the benchmark
    assert [
        name for name in named if not name.startswith(made) and not (ROOT / name).exists()
    ] == []
