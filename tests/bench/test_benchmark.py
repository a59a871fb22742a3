"""The benchmark runs, prints the documented figures, and leaves no process or file behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import figures
from bench.__main__ import KEYS, main
from bench.table import TABLE
from tests.support.reaper import processes_of

ROOT = Path(__file__).parents[2]


def _command(output: Path, *options: str) -> list[str]:
    scaled = ["--quick", "--scale", "0.01", "--output", str(output)]
    return [sys.executable, "-m", "bench", *scaled, *options]


def _environ(directory: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(directory)}


def test_a_tiny_run_writes_every_figure_of_its_row(session_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "latest.json"
    command = _command(output, "--only", "append_batch,verify_memory")
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=_environ(session_dir),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "append_batch" in done.stdout
    report: dict[str, Any] = json.loads(output.read_bytes())
    assert {"cores", "memory_gib", "quick"} <= report.keys()
    batch, memory = report["append_batch"], report["verify_memory"]
    for figure in (batch, memory):
        assert figure["runs"] == len(figure["measured_runs"]) == len(figure["baseline_runs"]) >= 3
        assert figure["measured"] > 0
        assert figure["baseline"] > 0
        assert figure["unit"]
        assert isinstance(figure["met"], bool)
    assert batch["target"] == 0.5
    assert batch["ratio"] > 0
    assert "full_answer" in batch["extra"]
    assert memory["value"] == memory["measured"]
    assert "linearity" in memory["extra"]
    assert not list(session_dir.glob("quire-bench-*"))


@pytest.mark.slow
def test_a_tiny_run_of_the_rows_about_signed_trees(session_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "latest.json"
    keys = ["checkpoint_lag", "tiles", "tree_rebuild"]
    done = subprocess.run(
        _command(output, "--only", ",".join(keys)),
        cwd=ROOT,
        env=_environ(session_dir),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(output.read_bytes())
    for key in keys:
        assert report[key]["measured"] > 0
        assert report[key]["baseline"] > 0
    lag = report["checkpoint_lag"]
    assert lag["value"] == lag["measured"] >= lag["baseline"]
    assert lag["extra"]["many_orgs_p99"] > 0
    assert {"bundles", "p99_ms_at_200"} <= report["tiles"]["extra"].keys()
    assert report["tree_rebuild"]["extra"]["unchecked"] > 0


def test_an_interrupted_run_leaves_nothing(session_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "latest.json"
    command = _command(output, "--scale", "1", "--only", "append_single")
    with subprocess.Popen(
        command, cwd=ROOT, env=_environ(session_dir), stderr=subprocess.DEVNULL
    ) as running:
        directory = _wait_for_server(session_dir)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    assert not output.exists()
    assert not processes_of(str(directory))
    assert not directory.exists()


def _wait_for_server(parent: Path) -> Path:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for log in parent.glob("quire-bench-*/*.log"):
            if "Quire serves" in log.read_text():
                return log.parent
        time.sleep(0.05)
    raise AssertionError("the benchmark started no server")


def test_a_missed_target_fails_only_a_strict_run() -> None:
    row = next(row for row in TABLE if row.key == "append_batch")
    missed = figures.judge(row, figures.ratio("events/s", [1.0, 1.1, 0.9], [10.0, 9.0, 11.0]))
    met = figures.judge(row, figures.ratio("events/s", [9.0, 9.1, 9.2], [10.0, 9.0, 11.0]))
    assert (missed.ratio, missed.met) == (0.1, False)
    assert met.met


def test_a_bound_from_above() -> None:
    row = next(row for row in TABLE if row.key == "verify_memory")
    assert figures.judge(row, figures.value("MiB", [300.0], [290.0])).met
    assert not figures.judge(row, figures.value("MiB", [401.0], [290.0])).met


def test_the_page_lists_the_rows_of_the_code() -> None:
    page = (ROOT / "bench" / "README.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| .* \| (at (?:least|most) [\d.]+)", page, re.MULTILINE)
    assert listed == [(row.key, f"{row.bound} {row.target:g}") for row in TABLE]
    assert [row.key for row in TABLE] == KEYS


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "append_bach"])
    assert "append_bach" in capsys.readouterr().err
