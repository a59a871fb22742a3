"""Every install instruction names our distribution; `quire` on the public index is another project."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import entry_points, version

import pytest

from ledger import __version__
from ledger.evidence import texts
from tests.support.made_up_index import ROOT

NAME = "quire-ledger"
INSTALL = re.compile(
    r"\b(?:pip3?|pipx|uv(?: pip| tool)?|poetry|python3? -m pip)\s+(?:install|add|download)\b(?P<rest>[^\n`]*)"
)
OTHERS_NAMES = re.compile(r"(?<![\w./-])quire(?:\[\w+\])?(?:[=<>~!]=?[\w.]+)?(?=['\"\s)&;,.]|$)")
"""The name `quire` as a pip requirement, with extras and versions."""
BUNDLES = "tests/vectors/"  # written by earlier versions and kept unchanged


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [name for name in listed.stdout.splitlines() if not name.startswith(BUNDLES)]


def installs_of_quire(text: str) -> list[str]:
    """The install commands of a text that would install the distribution `quire`."""
    return [
        found[0].strip() for found in INSTALL.finditer(text) if OTHERS_NAMES.search(found["rest"])
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        "pip install quire", "pip install 'quire[server]'", "python -m pip install -U quire==0.1",
        "uv pip install quire.", "pipx install quire && quire serve", 'pip install "quire"',
        "uv add quire",
    ],
)  # fmt: skip
def test_an_install_of_another_distribution_is_found(wrong: str) -> None:
    assert installs_of_quire(f"Run `{wrong}` first.\n") == [wrong]


@pytest.mark.parametrize(
    "right",
    ["pip install quire-ledger", "pip install 'quire-ledger[server]'", "pip install ./quire.whl"],
)
def test_an_install_of_our_distribution_is_not_found(right: str) -> None:
    assert installs_of_quire(f"Run `{right}` and then `quire serve`.\n") == []


def test_no_text_says_to_install_another_distribution() -> None:
    wrong = {}
    for name in tracked():
        path = ROOT / name
        if path.is_file() and path.name != "test_install_texts.py":
            found = installs_of_quire(path.read_bytes().decode(errors="replace"))
            if found or "quire[server]" in path.read_bytes().decode(errors="replace"):
                wrong[name] = found
    assert wrong == {}


@pytest.mark.parametrize("page", ["docs/client.md", "docs/bundles.md", "docs/verify-offline.md"])
def test_the_pages_for_users_and_auditors_say_how_to_install(page: str) -> None:
    assert f"pip install {NAME}" in (ROOT / page).read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md", "docs/client.md"])
def test_the_pages_on_the_server_and_its_command_name_the_extra(page: str) -> None:
    assert f"'{NAME}[server]'" in (ROOT / page).read_text()


def test_the_text_in_every_bundle_says_how_to_install() -> None:
    assert f"pip install {NAME}\n".encode() in texts.README


def test_the_distribution_has_our_name_version_and_commands() -> None:
    assert version(NAME) == __version__
    commands = entry_points(group="console_scripts")
    ours = {each.name for each in commands if each.dist is not None and each.dist.name == NAME}
    assert ours == {"quire", "quire-verify"}
