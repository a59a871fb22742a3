"""An org, and the command that imports a QWED trail into it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ledger.client import Entry, LedgerClient
from tests.qwed_writer import (
    SECRET,
)

QUIRE = Path(sys.executable).with_name("quire")


class Org:
    """A new org of the running server, and the command that imports into it."""

    def __init__(self, url: str, slug: str, client: LedgerClient, key: str) -> None:
        self.slug = slug
        self.client = client
        self._env = os.environ | {
            "QUIRE_URL": url,
            "QUIRE_API_KEY": key,
            "QWED_AUDIT_SECRET_KEY": SECRET.decode(),
        }

    def run(self, dsn: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [QUIRE, "import", "qwed", "--dsn", dsn, "--org", self.slug, *arguments],
            env=self._env | env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def run_json(self, dsn: str, *arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
        done = self.run(dsn, "--json", *arguments, **env)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def entries(self) -> list[Entry]:
        """The imported entries in the order of the trail."""
        return list(self.client.entries(event_type="qwed.imported", order="asc"))
