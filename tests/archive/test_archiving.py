"""`quire serve` archives signed entries by itself, by default into its data directory."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import run
from tests.support.quire_process import QuireProcess
from tests.support.waiting import until

PATIENCE_S = 60.0


@pytest.fixture
def served(data_dir: Path) -> Iterator[QuireProcess]:
    server = QuireProcess(data_dir)
    server.settings(QUIRE_ARCHIVE_SECONDS="0.2", QUIRE_CHECKPOINT_SECONDS="0.2")
    server.start()
    yield server
    server.terminate()


def request(server: QuireProcess, method: str, path: str, key: str, body: object = None) -> object:
    headers = {"x-api-key": key, "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    sent = urllib.request.Request(f"{server.url}{path}", data, headers, method=method)
    with urllib.request.urlopen(sent, timeout=90) as answer:
        return json.load(answer)


def metrics(server: QuireProcess) -> dict[str, float]:
    lines = server.metrics().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.partition(" ") for line in lines if line[:9] == "quire_arc")
    }


def test_appended_entries_are_archived_soon_and_verify(
    served: QuireProcess, data_dir: Path
) -> None:
    org, key = served.create_org("sealed")
    events = [{"event_type": "test", "number": number} for number in range(300)]
    request(served, "POST", f"/v1/orgs/{org}/entries", key, events)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        status = request(served, "GET", f"/v1/orgs/{org}/archive", key)
        assert isinstance(status, dict)
        if status["size"] >= 300:
            break
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    assert status["problem"] is None
    assert (status["target"], status["retain_days"]) == ("folder", 0)
    platform = (data_dir / "platform.key").read_text().strip()
    request(served, "POST", f"/v1/orgs/{org}/entries", key, events[:5])
    deadline = time.monotonic() + PATIENCE_S
    while True:
        done = request(served, "POST", f"/v1/orgs/{org}/archive", platform)
        assert isinstance(done, dict)
        if done["size"] == 305:
            break
        assert time.monotonic() < deadline, done  # the signer is on its way
        time.sleep(0.1)
    assert (data_dir / "archive" / org / "checkpoint").is_file()
    costs = metrics(served)
    assert costs["quire_archived_objects"] > 3
    assert costs["quire_archived_bytes"] > 300 * 40
    assert costs["quire_archiver_cpu_seconds"] > 0
    until(lambda: metrics(served)["quire_archive_behind_entries"] == 0)
    keys = {name: value for name, value in served._environ.items() if name.endswith("_KEY")}
    asked = ("archive", "verify", org, "--data-dir", str(data_dir), "--json")
    never = run("archive", "verify", "no-such-org", "--data-dir", str(data_dir))
    assert (never.returncode, b"Nothing of no-such-org is archived" in never.stderr) == (2, True)
    # Without the keys that sign entries, signatures are not checked.
    unsigned = run(*asked)
    said = json.loads(unsigned.stdout)
    assert (unsigned.returncode, said["verdict"]) == (3, "incomplete"), (
        said["trail"]["faults"],
        said["anchors"]["faults"],
    )
    # The anchor that dates the trail is archived a little later; the verdict is incomplete until then.
    deadline = time.monotonic() + PATIENCE_S
    while (verified := run(*asked, settings=keys)).returncode == 3:
        assert time.monotonic() < deadline, verified.stdout
    report = json.loads(verified.stdout)
    assert verified.returncode == 0, report
    assert report["trail"]["entries"] >= 305
    assert report["trail"]["database"] is True
