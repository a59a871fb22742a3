"""The distribution: a complete wheel, lock files that cover it, and assets as published."""

import hashlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ledger.evidence.page import MARKUP, PARTS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
SWAGGER_UI = ROOT / "server" / "http" / "static" / "swagger-ui"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in the wheel built from this checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, "-m", *command, "-w", str(directory), str(ROOT)], check=True)
    (path,) = directory.glob("quire_ledger-*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_the_wheel_holds_every_module(wheel: set[str]) -> None:
    modules = {
        str(path.relative_to(ROOT))
        for package in ("ledger", "server")
        for path in (ROOT / package).rglob("*.py")
    }
    assert modules <= wheel


def test_the_wheel_holds_every_migration(wheel: set[str]) -> None:
    migrations = {f"ledger/_migrations/{path.name}" for path in ROOT.glob("migrations/*.sql")}
    assert migrations
    assert migrations <= wheel


PAGE_PARTS = {f"ledger/evidence/page/{name}" for name in (MARKUP, *PARTS)}


def test_the_wheel_holds_the_parts_of_the_offline_page(wheel: set[str]) -> None:
    assert wheel >= PAGE_PARTS


def test_the_source_distribution_holds_the_parts_of_the_offline_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = tmp_path.glob("quire_ledger-*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= PAGE_PARTS


def test_the_wheel_holds_the_docs_page_and_its_licence(wheel: set[str]) -> None:
    assert {
        f"server/http/static/swagger-ui/{name}"
        for name in ("swagger-ui-bundle.js", "swagger-ui.css", "LICENSE", "NOTICE")
    } <= wheel


def test_vendored_files_are_as_published() -> None:
    table = re.findall(r"`([\w.-]+)` \| `([0-9a-f]{64})`", (SWAGGER_UI / "README.md").read_text())
    assert len(table) == 2
    for name, digest in table:
        assert hashlib.sha256((SWAGGER_UI / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("requirements.txt", PROJECT["dependencies"] + EXTRAS["server"]),
        ("requirements-dev.txt", PROJECT["dependencies"] + EXTRAS["server"] + EXTRAS["dev"]),
        ("requirements-build.txt", (ROOT / "requirements-build.in").read_text().splitlines()),
        ("requirements-s3.txt", (ROOT / "requirements-s3.in").read_text().splitlines()),
    ],
)
def test_a_lock_file_satisfies_its_requirements(lock: str, requirements: list[str]) -> None:
    pins = _pins(lock)
    for requirement in map(Requirement, requirements):
        assert requirement.name in pins
        assert requirement.specifier.contains(pins[requirement.name]), str(requirement)


def test_the_lock_files_agree() -> None:
    """All three can be installed into one virtual environment."""
    dev = _pins("requirements-dev.txt")
    assert _pins("requirements.txt").items() <= dev.items()
    for name, version in _pins("requirements-build.txt").items():
        assert dev.get(name, version) == version


def _pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))
