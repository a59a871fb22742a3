"""`.ci/system-packages` installs a make target's programs, or names those missing and their packages."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.made_up_index import ROOT

TABLE = (ROOT / ".ci" / "system-packages.txt").read_text()
ROWS = [line.split() for line in TABLE.splitlines() if line and not line.startswith("#")]
ON_EVERY_MACHINE = {"/bin/sh", "bash", "cp", "git", "make", "mount", "rm", "sh", "sleep", "umount"}
"""Programs of every Debian, and those that a checkout needs: git and make."""
OWN_ASSERTION = {"curl", "unzip"}
"""If these are not installed, tests use another program of the same kind."""


@pytest.fixture
def program_folder(tmp_path: Path) -> Path:
    """The only folder on the PATH, with just the programs that the script itself needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "env"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name in ("system-packages", "system-packages.txt"):
        shutil.copy(ROOT / ".ci" / name, tmp_path)
    return folder


def program(folder: Path, name: str, script: str = "") -> None:
    path = folder / name
    path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    path.chmod(0o755)


def install(machine: Path, target: str = "test") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(machine / "bash"), str(machine.parent / "system-packages"), target],
        env={"PATH": str(machine)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_installed_if_nothing_is_missing(program_folder: Path) -> None:
    for target, name, _ in ROWS:
        if target == "test":
            program(program_folder, name)
    done = install(program_folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_root_the_missing_programs_and_the_command_are_reported(
    program_folder: Path,
) -> None:
    program(program_folder, "id", "echo 1000")
    program(program_folder, "apt-get", "echo called >&2")
    program(program_folder, "openssl")
    done = install(program_folder)
    assert done.returncode == 1
    missing, command = done.stderr.splitlines()
    assert missing.startswith("make test needs chromium chromedriver")
    assert "apt-get install --no-install-recommends chromium chromium-driver " in command
    assert "openssl" not in command


def test_without_apt_they_are_reported_to_root_too(program_folder: Path) -> None:
    program(program_folder, "id", "echo 0")
    done = install(program_folder)
    assert done.returncode == 1
    assert "there is no apt-get" in done.stderr
    assert "apt-get install --no-install-recommends openssl chromium" in done.stderr


def test_root_installs_only_the_missing_programs(program_folder: Path, tmp_path: Path) -> None:
    program(program_folder, "id", "echo 0")
    program(program_folder, "chromium")
    programs = [name for target, name, _ in ROWS if target == "test" and name != "chromium"]
    made = f'for name in {" ".join(programs)}; do : >"{program_folder}/$name"; {shutil.which("chmod")} 755 "{program_folder}/$name"; done'
    program(
        program_folder,
        "apt-get",
        f'echo "$@" >>"{tmp_path}/calls"; [ "$1" = update ] || {{ {made}; }}',
    )
    done = install(program_folder)
    assert done.returncode == 0, done.stderr
    update, installed = (tmp_path / "calls").read_text().splitlines()
    assert update == "update -qq"
    assert installed.startswith("install -y -qq --no-install-recommends openssl chromium-driver ")
    assert "chromium" not in installed.split()
    assert install(program_folder).stderr == ""


@pytest.mark.parametrize(
    ("fails", "says"),
    [("exit 100", "could not install"), ("exit 0", "although apt-get reports success")],
)
def test_an_apt_that_installs_nothing_is_reported(
    program_folder: Path, fails: str, says: str
) -> None:
    program(program_folder, "id", "echo 0")
    program(program_folder, "apt-get", fails)
    done = install(program_folder)
    assert done.returncode == 1
    assert says in done.stderr
    assert "apt-get install --no-install-recommends openssl" in done.stderr


def test_packages_of_another_target_are_not_asked_for(program_folder: Path) -> None:
    program(program_folder, "id", "echo 1000")
    done = install(program_folder, "test-ceph")
    assert "radosgw" in done.stderr
    assert "chromium" not in done.stderr


def test_targets_that_the_table_names_install_their_packages() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in {row[0] for row in ROWS}:
        (recipe,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        assert f".ci/system-packages {target}\n" in recipe


def test_ci_runs_two_make_targets_and_its_check_and_installs_nothing_itself() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make (\S+)", script, re.MULTILINE) == ["lint", "test"]
    assert not re.search(r"apt-get|pip |grep", script)


def programs_of_tests() -> Iterator[tuple[str, str]]:
    """Programs that tests start or search by a name in their source, each with its module."""
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and path.name != Path(__file__).name:
                called = ast.unparse(node.func).rpartition(".")[2]
                yield from ((name, path.name) for name in started(called, node.args[0]))


def started(called: str, argument: ast.expr) -> Iterator[str]:
    if called == "which" and isinstance(argument, ast.Constant):
        yield str(argument.value)
    if called in {"run", "Popen", "check_call", "check_output", "call"}:
        first = argument.elts[0] if isinstance(argument, ast.List | ast.Tuple) else None
        if isinstance(first, ast.Constant):
            yield str(first.value)


def test_every_program_that_tests_start_is_in_the_table() -> None:
    """So `make test` installs each of them on a machine that lacks it."""
    listed = {row[1] for row in ROWS} | ON_EVERY_MACHINE | OWN_ASSERTION
    found = dict(programs_of_tests())
    assert {"openssl", "chromium", "sleep"} <= found.keys()
    assert {name: file for name, file in found.items() if name not in listed} == {}


def test_this_machine_has_the_programs_of_the_suite() -> None:
    path = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
    for target, name, package in ROWS:
        if target == "test":
            assert shutil.which(name, path=path), f"make test installs {package}"
