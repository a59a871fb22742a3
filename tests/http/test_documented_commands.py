"""Runs the commands of the README and of docs/api.md unchanged."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from server.access.beginnings import DEMO_KEY, DEMO_ORG
from tests.support import curl
from tests.support.serving import Server
from tests.support.signed_trees import SignedTrees

ROOT = Path(__file__).parents[2]
README, API = ((ROOT / name).read_text() for name in ("README.md", "docs/api.md"))
ADDRESS = "http://127.0.0.1:8080"


def commands(page: str) -> str:
    """The shell blocks of a page that call curl, joined into one script."""
    blocks = re.findall(r"^```sh\n(.+?)^```", page, re.MULTILINE | re.DOTALL)
    return "\n".join(block for block in blocks if "curl" in block)


@pytest.fixture(scope="module")
def demo_key(shared_server: Server) -> str:
    return shared_server.create_org(slug=DEMO_ORG)[1]


def run(script: str, server: Server, key: str, place: Path) -> list[dict[str, object]]:
    """Run a script in the folder of `make serve`; returns the JSON documents that it prints."""
    (place / ".quire").mkdir()
    (place / ".quire" / DEMO_KEY).write_text(key + "\n")
    environment = {"PATH": os.environ["PATH"], "QUIRE_URL": server.url, "QUIRE_API_KEY": key}
    if shutil.which("curl") is None:
        stand_in = place / "curl"
        called = shlex.join([sys.executable, curl.__file__])
        stand_in.write_text(f'#!/bin/sh\nexec {called} "$@"\n')
        stand_in.chmod(0o755)
        environment["PATH"] = f"{place}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-c", script.replace(ADDRESS, server.url)],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    decoder, printed, rest = json.JSONDecoder(), [], done.stdout.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        printed.append(document)
        rest = rest[end:].strip()
    return printed


def test_the_readme_appends(shared_server: Server, demo_key: str, tmp_path: Path) -> None:
    assert ADDRESS in README
    (appended,) = run(commands(README), shared_server, demo_key, tmp_path)
    assert {"record_id", "seq", "entry_hash"} <= appended.keys()


def test_the_api_page_s_examples_run(shared_server: Server, demo_key: str, tmp_path: Path) -> None:
    path = f"/v1/orgs/{DEMO_ORG}/entries"
    assert shared_server.request("POST", path, {}, key=demo_key).status == 201
    trees = SignedTrees(shared_server)  # done by the signer within seconds
    trees.sign()
    trees.anchor()
    appended, found, erased = run(commands(API), shared_server, demo_key, tmp_path)
    assert erased["subject"] == "ada"
    assert zipfile.is_zipfile(tmp_path / "evidence.zip")
    assert appended["count"] == 2
    entries = found["entries"]
    assert isinstance(entries, list)
    assert entries[0]["actor"] == "ada"


def test_the_files_named_by_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert {"serve", "test"} <= named <= targets
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        prose = re.sub(r"^```.+?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_the_secrets_of_the_containers_are_made_once(tmp_path: Path, shell: str) -> None:
    (block,) = re.findall(r"^```sh\n(\(umask.+?\.env\)\n)", README, re.MULTILINE | re.DOTALL)

    def make() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shell, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert make().returncode == 0
    made = (tmp_path / ".env").read_bytes()
    assert re.fullmatch(rb"([A-Z_]+=[0-9a-f]{64}\n){7}", made)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    again = make()
    assert again.returncode != 0
    assert ".env" in again.stderr
    assert (tmp_path / ".env").read_bytes() == made


def test_without_openssl_no_secret_is_empty(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```sh\n(\(umask.+?\.env\)\n)", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "openssl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "openssl").chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", block],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=False,
    )
    assert done.returncode != 0
    assert (tmp_path / ".env").read_bytes() == b""
