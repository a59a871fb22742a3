"""The two sides of a pair: this checkout, and another commit with its own environment."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final, NamedTuple

REPOSITORY: Final = Path(__file__).parents[2]
COMMITS: Final = REPOSITORY / ".bench-commits"
"""Folder of other commits, each unpacked with its `.venv` and kept for the next run."""
RUNTIME: Final = ".venv/.runtime"


class Checkout(NamedTuple):
    """A tree of the project, and its name in the table."""

    name: str
    directory: Path
    quire: Path
    """The command `quire` of this tree's own environment."""


class NoSuchCommit(Exception):
    """The commit cannot be read, or its environment cannot be built."""


def working_tree() -> Checkout:
    """Return this checkout, including uncommitted changes."""
    return Checkout("this checkout", REPOSITORY, Path(sys.executable).with_name("quire"))


def commit(revision: str) -> Checkout:
    """Unpack a commit and install it from its own locks. Raises NoSuchCommit."""
    try:
        sha = _git("rev-parse", "--verify", f"{revision}^{{commit}}").decode().strip()
    except NoSuchCommit as error:
        raise NoSuchCommit(f"this repository has no commit {revision}") from error
    directory = COMMITS / sha
    if not (directory / RUNTIME).exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(_git("archive", sha))) as archive:
            archive.extractall(directory, filter="data")
        _install(directory)
    return Checkout(sha[:12], directory, directory / ".venv" / "bin" / "quire")


def _install(directory: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environ["PYTHON"] = f"python{sys.version_info.major}.{sys.version_info.minor}"
    done = subprocess.run(
        ["make", RUNTIME], cwd=directory, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoSuchCommit(f"make {RUNTIME} failed in {directory}:\n{done.stderr}")


def _git(*arguments: str) -> bytes:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise NoSuchCommit(done.stderr.decode(errors="replace").strip())
    return done.stdout
