"""Runs the commands of the README and the tutorial unchanged, on a server started like `make serve`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.quire_process import QuireProcess

pytestmark = pytest.mark.xdist_group("tutorial")

ROOT = Path(__file__).parents[2]
SCRIPT_S = 150
TUTORIAL_CODES = [0, 0, 0, 0, 1, 2, 0, 0]
"""The exit codes of the tutorial's blocks: it finds a forgery, and a frozen org refuses an append."""


@pytest.fixture(scope="module")
def served(session_dir: Path) -> Iterator[QuireProcess]:
    """A server on the embedded database, with `.quire` and `.venv` in one folder."""
    folder = session_dir / "tutorial"
    folder.mkdir()
    folder.chmod(0o711)
    (folder / ".venv").symlink_to(sys.prefix)
    server = QuireProcess(folder / ".quire")
    server.settings(QUIRE_AUDIT_SECRET_KEY="", QUIRE_MASTER_KEY="", QUIRE_ANCHOR_SECONDS="0.5")
    server.start()
    yield server
    server.terminate()


def blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(r"^```sh\n(.+?)^```", text, re.MULTILINE | re.DOTALL)


def run(server: QuireProcess, scripts: list[str]) -> list[tuple[int, str]]:
    """Run all blocks in one shell, also after failures; returns the exit code and output of each."""
    end = "end of block"
    script = "".join(f'{each}\nprintf "\\n%s\\n" "{end} $?"\n' for each in scripts)
    done = subprocess.run(
        ["bash", "-u", "-c", script],
        cwd=server.data_dir.parent,
        env={"PATH": os.environ["PATH"], "QUIRE_URL": server.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SCRIPT_S,
        check=True,
    )
    parts = re.split(rf"\n{end} (\d+)\n", done.stdout)
    return [(int(code), said) for said, code in zip(parts[::2], parts[1::2], strict=False)]


def readme(server: QuireProcess) -> list[str]:
    """The README's example: an append, then the commands that prove and verify it."""
    example = blocks("README.md")[2:4]
    assert example[0].startswith("export QUIRE_API_KEY=")
    return [each.replace("http://127.0.0.1:8080", server.url) for each in example]


def test_the_readme_s_example_verifies(served: QuireProcess) -> None:
    (appended, _), (proved, said) = run(served, readme(served))
    assert (appended, proved) == (0, 0), said
    assert said.count("VERIFIED") == 2
    assert "INCOMPLETE" not in said


def test_the_page_on_bundles_matches_the_readme_s_entry(served: QuireProcess) -> None:
    examples = "\n".join(blocks("docs/bundles.md")[0].splitlines()[:2])
    path = 'export PATH="$PWD/.venv/bin:$PATH"'
    _, (code, said) = run(served, [readme(served)[0], f"{path}\n{examples}"])
    assert (code, said.count(".zip\n")) == (0, 4), said


def test_the_tutorial_finds_the_forgery(served: QuireProcess) -> None:
    ran = run(served, blocks("docs/tutorial.md"))
    assert [code for code, _ in ran] == TUTORIAL_CODES, ran
    verified, found, refused, shown, repaired = (ran[index][1] for index in (2, 4, 5, 6, 7))
    assert verified.count("VERIFIED") == 2
    assert "REFUTED" in found
    assert re.search(r"1 .*payload_mismatch", found)
    assert "frozen" in refused
    assert "VERIFIED: " in shown
    assert "shop: VERIFIED" in repaired
