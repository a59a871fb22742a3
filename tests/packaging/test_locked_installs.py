"""Locks are installed exactly, even if every package in them has a newer release.

The commands of the Makefile run on a local index of made-up wheels; those of the Dockerfile are
only read, as no container runs here.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.made_up_index import NEWER, ROOT, LockedProject, MadeUpIndex, Release
from tests.support.rings import slow

pytestmark = pytest.mark.xdist_group("locked_installs")  # these tests share one made-up project

S3_SITE = next((ROOT / ".venv-s3" / "lib").glob("python*/site-packages"), ROOT / ".venv-s3")
ENVIRONMENTS = {
    "requirements.txt": sys.path,
    "requirements-build.txt": sys.path,
    "requirements-dev.txt": sys.path,
    "requirements-s3.txt": [str(S3_SITE)],
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]
SERVER = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["server"]
ROOTS = {
    "requirements.txt": SERVER,
    "requirements-build.txt": (ROOT / "requirements-build.in").read_text().splitlines(),
    "requirements-dev.txt": SERVER + PROJECT["optional-dependencies"]["dev"],
    "requirements-s3.txt": (ROOT / "requirements-s3.in").read_text().splitlines(),
}
PIN = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?: *; *(?P<marker>[^\\\n]+))?", re.MULTILINE
)


def pins(lock: str) -> list[re.Match[str]]:
    return list(PIN.finditer((ROOT / lock).read_text()))


def needed(pins: Iterable[re.Match[str]]) -> dict[str, str]:
    """The pins that apply to this machine."""
    return {
        pin["name"]: pin["version"]
        for pin in pins
        if pin["marker"] is None or Marker(pin["marker"]).evaluate()
    }


def found(lock: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Version and requirements of each package in the lock's environment."""
    return {
        canonicalize_name(each.metadata["Name"]): (each.version, tuple(each.requires or ()))
        for each in distributions(path=ENVIRONMENTS[lock])
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> LockedProject:
    """A copy of this project and its environments, with locks of the same names and versions."""
    directory = tmp_path_factory.mktemp("locked")
    index = MadeUpIndex(directory / "index")
    project = LockedProject(directory / "project", index)
    for lock in ENVIRONMENTS:
        held = found(lock)
        project.write(lock, index.lock(as_release(pin, held) for pin in pins(lock)))
    made = project.make(".venv", ".venv-s3")
    assert made.returncode == 0, made.stderr
    return project


def as_release(pin: re.Match[str], held: dict[str, tuple[str, tuple[str, ...]]]) -> Release:
    _, requires = held.get(pin["name"], ("", ()))
    return Release(pin["name"], pin["version"], requires, (pin["marker"] or "").strip())


def test_newer_releases_of_everything_change_nothing(project: LockedProject) -> None:
    ours = {"quire-ledger": VERSION}
    locked = needed(pins("requirements-dev.txt")) | needed(pins("requirements-build.txt"))
    assert project.installed(".venv") == locked | ours
    assert project.installed(".venv-s3") == needed(pins("requirements-s3.txt"))
    assert NEWER not in {*locked.values()}


@pytest.mark.parametrize(
    ("stamp", "changed", "package"),
    [
        slow(".venv/.runtime", "pyproject.toml", "cffi"),
        (".venv/.dev", "requirements-dev.txt", "iniconfig"),
    ],
)
def test_an_environment_that_lacks_a_package_is_refused(
    project: LockedProject, stamp: str, changed: str, package: str
) -> None:
    """A package removed from the lock is not left over from the environment before."""
    project.without(changed, package)
    project.run(".venv/bin/python", "-m", "pip", "uninstall", "--quiet", "--yes", package)
    refused(project.make(stamp), package)
    refused(project.make(stamp), package)  # the failed target set no stamp


def test_a_lock_with_a_missing_or_too_old_package_is_refused(tmp_path: Path) -> None:
    index = MadeUpIndex(tmp_path / "index")
    project = LockedProject(tmp_path / "project", index)
    releases = [Release("alpha", "1.0", ("beta", "gamma>=2")), Release("gamma", "1.0")]
    project.write("requirements-s3.txt", index.lock(releases))
    index.publish(Release("beta", "1.0"))  # the index has the package, and the lock does not
    refused(made := project.make(".venv-s3"), "beta")
    assert "gamma>=2" in made.stderr
    assert project.installed(".venv-s3") == {"alpha": "1.0", "gamma": "1.0"}


def refused(made: subprocess.CompletedProcess[str], package: str) -> None:
    assert made.returncode != 0
    assert f"requires {package}, which is not installed" in made.stderr
    assert "make lock" in made.stderr


def test_every_install_of_a_lock_takes_it_exactly() -> None:
    """In the Makefile as expanded by `make`, in the Dockerfile and in the scripts of .ci."""
    installs = [line for line in commands() if re.search(r"\bpip install\b", line)]
    assert len(installs) >= 7
    for line in installs:
        assert "--no-deps" in line, line
        built_here = line.endswith((" -e .", "dist/*.whl"))
        assert built_here or "--require-hashes --only-binary :all: -r" in line, line


def test_every_environment_is_checked_after_the_last_install() -> None:
    """By `pip check`, or by the script that runs it, for each environment by name."""
    last: dict[str, str] = {}
    for line in commands():
        environment = re.search(r"\.venv-s3|\.venv\b|/opt/quire|/opt/build", line)
        if environment and re.search(r"pip install|pip check|check-packages", line):
            last[environment[0]] = line
    assert set(last) == {".venv", ".venv-s3", "/opt/quire", "/opt/build"}
    for line in last.values():
        assert re.search(r"pip check|check-packages", line), line


def commands() -> list[str]:
    """The commands, one per line, that `make` would run for every environment and the image runs."""
    dry = ["make", "-n", "-B", ".venv", ".venv-s3"]
    made = subprocess.run(dry, cwd=ROOT, check=True, capture_output=True, text=True)
    image = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    scripts = [
        path.read_text() for path in (ROOT / ".ci").iterdir() if path.name != "everything_ran.py"
    ]
    text = "\n".join([made.stdout, image, *scripts])
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [part.strip() for line in lines for part in line.split("&&")]


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*")), ids=lambda path: path.name)
def test_a_lock_names_no_package_index(path: Path) -> None:
    """Each user's own index must do."""
    named = r"https?://|--(extra-)?index-url|--find-links|--trusted-host"
    assert not re.findall(named, path.read_text())


@pytest.mark.parametrize("lock", ENVIRONMENTS)
def test_an_environment_has_the_packages_of_its_lock(lock: str) -> None:
    held = {name: version for name, (version, _) in found(lock).items()}
    assert needed(pins(lock)).items() <= held.items()


@pytest.mark.parametrize(("lock", "roots"), ROOTS.items())
def test_a_lock_has_all_that_its_packages_need(lock: str, roots: list[str]) -> None:
    """Including extras, which `pip check` does not check (`pydantic[email]`)."""
    locked, held = needed(pins(lock)), found(lock)
    waiting = [Requirement(line) for line in roots]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen or not applies(requirement, set()):
            continue
        seen.add(str(requirement))
        assert name in locked, f"{lock} lacks {requirement}"
        assert requirement.specifier.contains(locked[name], prereleases=True), (
            f"{lock} has no {requirement}"
        )
        needs = map(Requirement, held[name][1])
        waiting += [strip(need) for need in needs if applies(need, requirement.extras)]


def applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras})


def strip(requirement: Requirement) -> Requirement:
    """The requirement without its marker, which was evaluated before."""
    requirement.marker = None
    return requirement
