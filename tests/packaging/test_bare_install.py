"""Messages of an installation without the extra `server`, or with only a part of it."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.auditor import ROOT, Auditor
from tests.support.clusters import _free_port as free_port

pytestmark = pytest.mark.xdist_group("bare_install")  # one environment of each kind

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRA = sorted(Requirement(line).name for line in PROJECT["optional-dependencies"]["server"])
INSTALL = "pip install 'quire-ledger[server]'"
TO_BUCKET = ("archive", "verify", "org", "--offline", "--archive", "s3://bucket?lock=none")
VERIFY = ("verify", "org", "--url", "http://127.0.0.1:1")
USES = {"aiobotocore": TO_BUCKET, "rich": VERIFY}
"""A command that needs the package, where `quire serve` does not."""


@pytest.fixture(scope="module")
def base_install(tmp_path_factory: pytest.TempPathFactory) -> Auditor:
    """An environment with the wheel and its requirements without extras."""
    return Auditor(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def server_install(tmp_path_factory: pytest.TempPathFactory) -> Auditor:
    """An environment with the wheel and its requirements with the extra `server`."""
    machine = Auditor(tmp_path_factory.mktemp("whole"))
    machine.lend_extra("server")
    return machine


def refused(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 2, done.stderr
    assert INSTALL in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("--help",), ("--version",), ("serve",), ("serve", "--help"), ("verify", "org"),
        ("append",), ("witness", "init", "w"), ("nothing",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_quire_without_extras_names_the_extra(
    base_install: Auditor, arguments: tuple[str, ...]
) -> None:
    refused(base_install.run("quire", *arguments))


def test_without_extras_the_client_and_the_verifier_work(base_install: Auditor) -> None:
    assert (
        base_install.run("quire-verify", "--version").stdout
        == f"quire-verify {PROJECT['version']}\n"
    )
    assert base_install.run("python", "-c", "import ledger.client").returncode == 0


def test_with_the_extra_the_server_works(server_install: Auditor) -> None:
    assert server_install.run("quire", "--version").stdout == f"quire {PROJECT['version']}\n"
    assert server_install.run("quire", "settings").returncode == 0


@pytest.fixture
def serve_arguments(data_dir: Path) -> tuple[str, ...]:
    return ("serve", "--port", str(free_port()), "--data-dir", str(data_dir))


@pytest.mark.parametrize("missing", EXTRA)
def test_a_missing_part_of_the_extra_is_named(
    server_install: Auditor, serve_arguments: tuple[str, ...], missing: str
) -> None:
    with server_install.without(missing):
        refused(server_install.run("quire", *USES.get(missing, serve_arguments)))


@pytest.mark.parametrize("missing", ["multidict", "msgspec"])
def test_a_missing_indirect_requirement_is_named_too(
    server_install: Auditor, serve_arguments: tuple[str, ...], missing: str
) -> None:
    """An indirect requirement of the extra, or a requirement of the package without extras."""
    with server_install.without(missing):
        refused(server_install.run("quire", *serve_arguments))


def test_a_missing_module_of_ours_is_not_taken_for_an_extra(
    server_install: Auditor, serve_arguments: tuple[str, ...]
) -> None:
    (module,) = Path(server_install.home.parent).glob(
        "venv/lib/*/site-packages/server/process/runs/banner.py"
    )
    moved = module.rename(module.with_name("moved.py"))
    try:
        done = server_install.run("quire", *serve_arguments)
        assert done.returncode != 0
        assert "pip install" not in done.stderr
    finally:
        moved.rename(module)
