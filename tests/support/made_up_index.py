"""A folder of made-up wheels that pip uses as a package index, and a project locked to them.

The wheels contain only metadata, except that of `hatchling`: it has a build backend, as the
project is built with the packages that its locks name.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
NEWER: Final = "9999"
BACKEND: Final = """\
import tomllib, zipfile
from pathlib import Path

def build_wheel(folder, settings=None, metadata=None):
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\\n" for line in project["dependencies"])
    file = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder, file), "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: {project['name']}\\nVersion: {version}\\n{needs}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nGenerator: made-up\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return file

build_editable = build_wheel
"""


class Release(NamedTuple):
    """One version of a package, and its `Requires-Dist` lines."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    marker: str = ""
    """The environment marker of the package in the lock."""


class MadeUpIndex:
    """An initially empty folder of wheels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def publish(self, release: Release) -> str:
        """Add a release; returns the SHA-256 of its wheel."""
        stem = f"{release.name.replace('-', '_')}-{release.version}"
        needs = "".join(f"Requires-Dist: {line}\n" for line in release.requires)
        about = f"Metadata-Version: 2.1\nName: {release.name}\nVersion: {release.version}\n{needs}"
        tags = "Root-Is-Purelib: true\nTag: py3-none-any\n"
        files = {
            f"{stem}.dist-info/METADATA": about,
            f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: made-up\n{tags}",
            f"{stem}.dist-info/RECORD": "",
        }
        if release.name == "hatchling":
            files |= {"hatchling/__init__.py": "", "hatchling/build.py": BACKEND}
        path = self.folder / f"{stem}-py3-none-any.whl"
        before = path.read_bytes() if path.exists() else None
        with zipfile.ZipFile(path, "w") as wheel:
            for name, content in files.items():
                wheel.writestr(
                    zipfile.ZipInfo(name), content
                )  # dated 1980: the same bytes each time
        wheel_bytes = path.read_bytes()
        assert before in {None, wheel_bytes} or release.version == NEWER, (
            f"two locks name different wheels {path.name}"
        )
        return hashlib.sha256(wheel_bytes).hexdigest()

    def lock(self, releases: Iterable[Release]) -> str:
        """Publish releases, and a newer version of each; returns a lock file of the older ones."""
        lines = []
        for release in releases:
            digest = self.publish(release)
            self.publish(release._replace(version=NEWER))
            marker = f" ; {release.marker}" if release.marker else ""
            lines.append(
                f"{release.name}=={release.version}{marker} \\\n    --hash=sha256:{digest}\n"
            )
        return "".join(lines)


class LockedProject:
    """A copy of this checkout's installation files, with replaceable locks."""

    def __init__(self, directory: Path, index: MadeUpIndex) -> None:
        self.directory = directory
        self._index = index
        directory.mkdir()
        shutil.copytree(ROOT / ".ci", directory / ".ci")
        for name in ("Makefile", "Dockerfile", "pyproject.toml"):
            shutil.copy(ROOT / name, directory)

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def without(self, name: str, package: str) -> None:
        """Remove a package's lines from a file; the file gets a new modification time in any case."""
        whole = (self.directory / name).read_text()
        pin = rf"^{package}==.*(\n    --hash.*)*\n"
        self.write(name, re.sub(pin, "", whole, flags=re.MULTILINE))

    def make(self, *targets: str) -> subprocess.CompletedProcess[str]:
        """Run `make` here as a user does; only packages of the index can be reached."""
        return self.run("make", "--no-print-directory", *targets)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command here."""
        return subprocess.run(
            command,
            cwd=self.directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def installed(self, venv: str) -> dict[str, str]:
        """Name and version of a virtual environment's packages, without those every one has."""
        listed = self.run(f"{venv}/bin/python", "-m", "pip", "list", "--format=freeze")
        pairs = (line.split("==") for line in listed.stdout.splitlines())
        return {name: version for name, version in pairs if name not in {"pip", "setuptools"}}

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "MAKE", "PYTHON"))
        }
        return kept | {
            "PYTHON": sys.executable,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_NO_COMPILE": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_FIND_LINKS": str(self._index.folder),
        }
