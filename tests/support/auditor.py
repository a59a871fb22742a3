"""An auditor's machine: a virtual environment with only the built wheel and its base dependencies."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


class Auditor:
    """The environment, made in an empty directory from this checkout, without a package index."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.home.mkdir()
        self._bin = directory / "venv" / "bin"
        venv.create(self._bin.parent, with_pip=False)
        command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        offline = ["--no-deps", "--no-index"]
        wheel = ["wheel", *offline, "--no-build-isolation", "-w", str(directory), str(ROOT)]
        subprocess.run([*command, *wheel], check=True)
        (built,) = directory.glob("quire_ledger-*.whl")
        here = ["--python", str(self._bin / "python"), "install", *offline, str(built)]
        subprocess.run([*command, *here], check=True)
        self._site = next((self._bin.parent / "lib").glob("python*/site-packages"))
        for name in base_dependencies():
            self._lend(distribution(name))

    def lend_extra(self, extra: str) -> None:
        """Add an extra's packages, as `pip install 'quire-ledger[EXTRA]'` would."""
        for name in dependencies(extra):
            self._lend(distribution(name))

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Remove one distribution while the block runs."""
        taken = [place for place in self._places(distribution(name)) if place.is_symlink()]
        assert taken, f"{name} is not installed"
        away = self.home.with_name("away")
        away.mkdir()
        for place in taken:
            place.rename(away / place.name)
        try:
            yield
        finally:
            for place in taken:
                (away / place.name).rename(place)
            away.rmdir()

    def _places(self, package: Distribution) -> Iterator[Path]:
        tops = {file.parts[0] for file in package.files or ()}
        return (self._site / top for top in tops - {"..", "__pycache__"})

    def _lend(self, package: Distribution) -> None:
        """Link the files of an installed package into this environment."""
        for place in self._places(package):
            if not place.exists():
                place.symlink_to(Path(str(package.locate_file(place.name))).resolve())

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment in its home, with nothing else in its environment."""
        return subprocess.run(
            [str(self._bin / command[0]), *command[1:]],
            cwd=self.home,
            env={"HOME": str(self.home), "PATH": os.defpath, "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def installed(self) -> set[str]:
        """The distributions that this environment has."""
        found = distributions(path=[str(self._site)])
        return {canonicalize_name(each.metadata["Name"]) for each in found}


def base_dependencies() -> set[str]:
    """The distributions that the package without extras needs, directly and indirectly."""
    return dependencies("")


def dependencies(extra: str) -> set[str]:
    """The distributions that the package with this extra needs, directly and indirectly."""
    needed: set[str] = set()
    waiting = [Requirement(f"quire-ledger[{extra}]" if extra else "quire-ledger")]
    while waiting:
        asking = waiting.pop()
        for line in distribution(asking.name).requires or ():
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            if name not in needed and _asked_for(requirement, asking.extras):
                needed.add(name)
                waiting.append(requirement)
    return needed


def _asked_for(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras})
