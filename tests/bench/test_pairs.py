"""`python -m bench.pairs` measures both commits, and names the rows that cannot be compared."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.pairs.__main__ import main
from bench.pairs.cpu import Cpu
from bench.pairs.rows import ROWS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_tiny_pair_counts_the_cpu_of_each_part(session_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "pairs.json"
    rows = "append_guarded,verify_full"
    command = [sys.executable, "-m", "bench.pairs", "--base", ".", "--pairs", "1", "--rows", rows]
    done = subprocess.run(
        [*command, "--scale", "0.03", "--output", str(output)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(session_dir)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(output.read_bytes())
    assert ",".join(report["rows"]) == rows
    assert set(report["rows"]) < set(ROWS)
    for key, row in report["rows"].items():
        assert key in done.stdout
        assert len(row["ratios"]) == len(row["before"]) == len(row["after"]) == 1
        for server, postgres, signer in row["before"] + row["after"]:
            assert server > 0
            assert postgres >= 0
            assert signer >= 0
    assert not list(session_dir.glob("quire-bench-*"))


def test_cpu_is_counted_per_event_and_in_all() -> None:
    used = Cpu(3.0, 2.0, 1.5).since(Cpu(1.0, 1.0, 1.0))
    assert used.per(1_000_000) == Cpu(2.0, 1.0, 0.5)
    assert used.total == 3.5


def test_an_unknown_commit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base", "no-such-commit"]) == 2
    assert "no commit no-such-commit" in capsys.readouterr().err


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--base", ".", "--rows", "append_bach"])
    assert "append_bach" in capsys.readouterr().err
