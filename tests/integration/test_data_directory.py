"""A real server writes exactly the documented files of its features into its data directory."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

from server.app.features import FEATURES
from tests.support.quire_process import QuireProcess

PATIENCE_S = 60


def test_what_a_server_writes_is_what_the_features_say(data_dir: Path) -> None:
    server = QuireProcess(data_dir)
    server.settings(QUIRE_AUDIT_SECRET_KEY="", QUIRE_MASTER_KEY="", QUIRE_ARCHIVE_SECONDS="0.1")
    server.start()
    try:
        key = (data_dir / "demo-admin.key").read_text().strip()
        event = json.dumps({"event_type": "data.directory"}).encode()
        request = urllib.request.Request(
            f"{server.url}/v1/orgs/demo/entries",
            event,
            {"x-api-key": key, "content-type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=30).close()
        deadline = time.monotonic() + PATIENCE_S
        while not (data_dir / "archive" / "demo" / "checkpoint").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        written = {f"{path.name}{'/' * path.is_dir()}" for path in data_dir.iterdir()}
    finally:
        server.terminate()
    beside_memory = {"signed.sqlite-wal", "signed.sqlite-shm"}
    assert written - beside_memory == {
        file.name for feature in FEATURES for file in feature.data_files
    }
