"""Runs the commands of docs/check-with-others.md unchanged."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ledger.checkpoint import TreeHead
from ledger.log_keys import dump_log_keys
from ledger.note import sign_note
from server.keys.first_start import create_private_file
from tests.support.clusters import Cluster
from tests.support.go_toolchain import GOROOT, offline_go
from tests.support.quire_process import QUIRE, QuireProcess
from tests.support.signing import log_keys
from tests.support.timestamp_authority import TimestampAuthority

pytestmark = [pytest.mark.xdist_group("check_with_others"), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/check-with-others.md").read_text()
ADDRESS = "http://127.0.0.1:8080"
KEYS = log_keys()
ENTRIES = 600
PATIENCE_S = 120
SCRIPT_S = 250


def sections() -> dict[str, list[str]]:
    """The page's shell blocks by the first words of their sections' titles."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)[1:]
    return {
        title.partition(":")[0]: re.findall(r"^```sh\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


BLOCKS = sections()
SETUP, WHOLE, LOAD, HISTORY, TIME = (
    "What you need",
    "A whole log",
    "Under load",
    "A history that was not rewritten",
    "A point in time",
)


@dataclass
class Desk:
    """An auditor's workplace: a folder, the page's tools, and a server to check."""

    server: QuireProcess
    key: str
    folder: Path
    archive: Path

    def run(self, *scripts: str) -> subprocess.CompletedProcess[str]:
        """Run the page's preparations and then these commands in one shell."""
        script = "\n".join([*BLOCKS[SETUP], *scripts]).replace(ADDRESS, self.server.url)
        return subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=self.folder,
            env={
                **offline_go(self.folder),
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "QUIRE_DATA_DIR": str(self.server.data_dir),
                "QUIRE_API_KEY": self.key,
            },
            capture_output=True,
            text=True,
            timeout=SCRIPT_S,
            check=False,
        )

    def get(self, path: str) -> Any:
        """The server's answer, decoded if it is JSON, else as text; None if it is a refusal."""
        request = urllib.request.Request(self.server.url + path, headers={"x-api-key": self.key})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                content = answer.read()
        except urllib.error.HTTPError:
            return None
        return json.loads(content) if content.startswith(b"{") else content.decode()

    def wait(self, until: Callable[[], object]) -> None:
        """Wait for an act of the signer or the authority; either acts within seconds."""
        deadline = time.monotonic() + PATIENCE_S
        while not until():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def size(self, org: str) -> int:
        """The size of an org's newest checkpoint; 0 if there is none."""
        note = self.get(f"/v1/orgs/{org}/log/checkpoint")
        return 0 if note is None else int(note.splitlines()[1])


def _program(folder: Path, name: str, *command: str) -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


def _quire(folder: Path) -> None:
    _program(folder, "quire", *QUIRE)


@pytest.fixture(scope="module")
def desk(
    postgres_cluster: Cluster,
    session_dir: Path,
    shared_authority: TimestampAuthority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Desk]:
    database = postgres_cluster.migrated()
    data_dir = session_dir / uuid4().hex[:8]
    data_dir.mkdir()
    create_private_file(data_dir / "log-keys.json", dump_log_keys(KEYS))
    archive = tmp_path_factory.mktemp("archive")
    server = QuireProcess(data_dir, database.server_url)
    server.settings(
        QUIRE_CHECKPOINT_SECONDS="0.2",
        QUIRE_ANCHOR_SECONDS="0.5",
        QUIRE_TSA_URL=shared_authority.url,
        QUIRE_TSA_CA=str(shared_authority.ca_file),
        QUIRE_TSA_SECONDS="1",
        QUIRE_ADD_ORG="hammer",
        QUIRE_ARCHIVE_URL=f"file://{archive}",
    )
    server.start()
    folder = tmp_path_factory.mktemp("desk")
    _quire(folder)
    _program(folder, "python3", sys.executable)
    _program(folder, "go", str(GOROOT / "bin" / "go"))
    (folder / "tsa-ca.pem").write_bytes(shared_authority.ca_pem)
    made = Desk(server, (data_dir / "platform.key").read_text().strip(), folder, archive)
    _fill(made)
    yield made
    server.terminate()
    postgres_cluster.drop(database)


def _fill(desk: Desk) -> None:
    events = desk.folder / "events.ndjson"
    events.write_text("".join(f'{{"event_type":"others","n":{n}}}\n' for n in range(ENTRIES)))
    script = ["quire orgs create demo", "quire orgs create hammer --privacy plain"]
    script += ["quire append demo events.ndjson", "head -n 1 events.ndjson | quire append hammer"]
    done = desk.run(*script)
    assert done.returncode == 0, done.stderr
    for org in ("demo", "hammer"):
        request = urllib.request.Request(
            f"{desk.server.url}/v1/orgs/{org}",
            b'{"log_public": true}',
            {"x-api-key": desk.key, "content-type": "application/json"},
            method="PATCH",
        )
        urllib.request.urlopen(request, timeout=30).close()
    desk.wait(lambda: desk.size("demo") == ENTRIES and desk.size("hammer") == 1)


def test_the_page_has_the_sections_that_are_run() -> None:
    run = {SETUP, WHOLE, LOAD, HISTORY, TIME}
    assert {title for title, blocks in BLOCKS.items() if blocks} == run


def test_the_page_names_the_versions_that_are_installed() -> None:
    makefile = (ROOT / "Makefile").read_text()
    installed = re.findall(r"^(?:TESSERA|GO_MOD) := (v[0-9.]+)$", makefile, re.MULTILINE)
    assert len(installed) == 2
    assert set(re.findall(r"@(v[0-9.]+)", PAGE)) == set(installed)
    assert all(version in PAGE.split("## ", maxsplit=1)[0] for version in installed)


def test_the_libraries_tests_exist() -> None:
    (command,) = re.findall(r"^\$ \.venv/bin/python -m pytest (.+)$", PAGE, re.MULTILINE)
    assert all((ROOT / name).is_file() for name in command.split())


def test_fsck_accepts_both_logs(desk: Desk) -> None:
    done = desk.run(*BLOCKS[WHOLE])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Successfully fsck'd log with size {ENTRIES} and root" in done.stdout
    assert done.stdout.count("Successfully fsck'd log") == 4  # logged, and printed


def test_fsck_refuses_a_key_of_another_log(desk: Desk) -> None:
    done = desk.run("cp anchors.vkey demo.vkey", BLOCKS[WHOLE][0])
    assert done.returncode != 0
    assert "fsck failed" in done.stdout


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("tile/entries/000", marks=pytest.mark.slow),
        pytest.param("tile/0/000", marks=pytest.mark.slow),
        "checkpoint",
    ],
)
def test_fsck_refuses_an_archive_that_was_altered(desk: Desk, path: str, tmp_path: Path) -> None:
    (prepare, *_), run = BLOCKS[WHOLE], "quire archive run demo --wait 60"
    local = prepare.replace('"$LOG/"', shlex.quote(f"file://{tmp_path}/demo/"))
    assert desk.run(run).returncode == 0
    shutil.copytree(desk.archive / "demo", tmp_path / "demo")
    good = desk.run(local)
    assert good.returncode == 0, good.stdout + good.stderr
    file = tmp_path / "demo" / path
    altered = bytearray(file.read_bytes())
    altered[40] ^= 1
    file.chmod(0o644)
    file.write_bytes(altered)
    bad = desk.run(local.replace("timeout 10m", "timeout 10s"))  # at a bad tile it never ends
    assert bad.returncode != 0
    assert "Successfully" not in bad.stdout


def test_hammer_accepts_a_growing_log(desk: Desk) -> None:
    done = desk.run(*BLOCKS[LOAD])
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stderr.splitlines()
    assert any("Reached tree size goal of 501" in line for line in said)
    warned = [line for line in said if re.match(r"[EWF]\d{4} ", line)]
    # At its goal the program cancels its pending requests.
    assert not [line for line in warned if "context canceled" not in line]
    assert desk.size("hammer") >= 501


def _save_program(desk: Desk) -> None:
    (program,) = re.findall(r"^```go\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for name in ("go.mod", "go.sum", "kept.checkpoint"):
        (desk.folder / name).unlink(missing_ok=True)
    (desk.folder / "check.go").write_text(program)


def test_the_program_with_go_s_packages(desk: Desk) -> None:
    _save_program(desk)
    done = desk.run(*BLOCKS[HISTORY])
    assert done.returncode == 0, done.stdout + done.stderr
    first, leaf, grown, again, same = done.stdout.splitlines()
    assert grown == f"size {ENTRIES} goes on from size {ENTRIES}"
    assert (first, leaf) == (again, same)
    entry = json.loads(leaf)
    assert (entry["org"], entry["seq"]) == ("demo", 17)
    listed = desk.get("/v1/orgs/demo/entries?order=asc&limit=18")["entries"]
    assert first == f"entry 17 is in size {ENTRIES}, its hash is {listed[17]['entry_hash']}"


def test_the_program_finds_a_rewritten_history(desk: Desk) -> None:
    _save_program(desk)
    (signer,) = KEYS.org_signers("demo")
    other = TreeHead(KEYS.public().org_origin("demo"), 300, bytes(32))
    (desk.folder / "kept.checkpoint").write_bytes(sign_note(other.text(), [signer]))
    done = desk.run(*BLOCKS[HISTORY])
    assert done.returncode == 1
    assert "REWRITTEN: size 300 is not the tree that kept.checkpoint has" in done.stderr


def test_openssl_verifies_the_token_in_a_bundle(desk: Desk) -> None:
    record = desk.get("/v1/orgs/demo/entries?order=asc&limit=10")["entries"][9]["record_id"]
    proof = f"/v1/orgs/demo/entries/{record}/proof?anchored=true"
    desk.wait(lambda: (desk.get(proof) or {"anchoring": {}})["anchoring"].get("timestamps"))
    done = desk.run(*BLOCKS[TIME])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verification: OK" in done.stdout + done.stderr
    assert "Time stamp: " in done.stdout
    _, verify, *_ = re.split(r"^(?=openssl)", BLOCKS[TIME][0], flags=re.MULTILINE)
    other = desk.run("echo >> evidence/anchors/*.note", verify)
    assert other.returncode != 0
    assert "Verification: FAILED" in other.stdout + other.stderr
