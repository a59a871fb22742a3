"""The commands of the page on backups, run as they stand, and what they bring back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.quire_process import QUIRE, QuireProcess

PAGE = (Path(__file__).parents[2] / "docs" / "backup.md").read_text()
BACK_UP, RESTORE = re.findall(r"^```sh\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
SCRIPT_S = 120


def run(folder: Path, *command: str, **environ: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SCRIPT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_backup_comes_back(session_dir: Path) -> None:
    folder = session_dir / "backup-page"
    folder.mkdir()
    folder.chmod(0o711)
    (folder / ".venv").symlink_to(sys.prefix)
    server = QuireProcess(folder / ".quire")
    server.settings(QUIRE_AUDIT_SECRET_KEY="", QUIRE_MASTER_KEY="", QUIRE_ANCHOR_SECONDS="0.5")
    (folder / "events").write_text('{"event_type": "a"}\n{"event_type": "b", "subject": "ada"}\n')
    server.start()
    try:
        run(folder, *QUIRE, "append", "demo", "events", QUIRE_URL=server.url)
        run(folder, *QUIRE, "bundle", "create", "demo", "--from", "0", QUIRE_URL=server.url)
        run(folder, *QUIRE, "archive", "run", "demo", QUIRE_URL=server.url)
        run(folder, "bash", "-eu", "-c", BACK_UP)
        server.terminate()
        (folder / ".quire").rename(folder / "lost")
        run(folder, "bash", "-eu", "-c", RESTORE)
        server.start()
        verified = run(folder, *QUIRE, "verify", "demo", QUIRE_URL=server.url)
        assert "demo: VERIFIED" in verified
        assert re.search(r"2 verified", verified)
        listed = run(folder, *QUIRE, "entries", "list", "demo", QUIRE_URL=server.url)
        assert "ada" in listed
        run(folder, *QUIRE, "append", "demo", "events", QUIRE_URL=server.url)
        archived = run(folder, *QUIRE, "archive", "run", "demo", QUIRE_URL=server.url)
        assert re.search(r"Archived +(\d+) of \1 signed entries", archived)
    finally:
        server.terminate()
