"""An auditor's machine: a virtual environment with the built wheel and its base dependencies only."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


class Auditor:
    """Made in an empty directory, from this checkout, without a package index."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.home.mkdir()
        self._bin = directory / "venv" / "bin"
        venv.create(self._bin.parent, with_pip=False)
        command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        offline = ["--no-deps", "--no-index"]
        wheel = ["wheel", *offline, "--no-build-isolation", "-w", str(directory), str(ROOT)]
        subprocess.run([*command, *wheel], check=True)
        (built,) = directory.glob("quire-*.whl")
        here = ["--python", str(self._bin / "python"), "install", *offline, str(built)]
        subprocess.run([*command, *here], check=True)
        self._site = next((self._bin.parent / "lib").glob("python*/site-packages"))
        for name in base_dependencies():
            self._lend(distribution(name))

    def _lend(self, package: Distribution) -> None:
        """Link the files of an installed package into this environment."""
        for file in package.files or ():
            top = file.parts[0]
            if top not in {"..", "__pycache__"} and not (self._site / top).exists():
                (self._site / top).symlink_to(Path(str(package.locate_file(top))).resolve())

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
    """The distributions that the base package needs, and those that these need."""
    needed: set[str] = set()
    waiting = ["quire"]
    while waiting:
        for line in distribution(waiting.pop()).requires or ():
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            if name not in needed:
                needed.add(name)
                waiting.append(name)
    return needed
