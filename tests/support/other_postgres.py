"""Runs the PostgreSQL of another folder instead of the bundled one (`make test-postgres`)."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

from server.embedded import binaries, cluster, files
from server.embedded.account import ClusterAccount

_FOLDER: Final = os.environ.get("TEST_POSTGRES_BIN")


def named_major() -> int | None:
    """The major version of the PostgreSQL in TEST_POSTGRES_BIN; None if that is not set."""
    if _FOLDER is None:
        return None
    version = subprocess.run(
        [Path(_FOLDER) / "postgres", "--version"], check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"\d+", version)
    assert found is not None, f"{_FOLDER}: {version}"
    return int(found[0])


def use_named() -> None:
    """Make this process's clusters run the programs of TEST_POSTGRES_BIN."""
    major = named_major()
    if _FOLDER is None or major is None:
        return
    folder = Path(_FOLDER)

    def program_folder(account: ClusterAccount) -> Path:
        assert account.can_run(folder / "initdb"), f"{account} cannot run {folder}/initdb"
        return folder

    for module in (binaries, cluster):
        setattr(module, "program_folder", program_folder)  # noqa: B010 - mypy refuses to assign an imported name
    setattr(files, "MAJOR_VERSION", major)  # noqa: B010 - the same
