"""`quire` as a forked process: one process imports the commands, and each call is a fork of it.

A call has its own arguments, environment, folder and output, as a process that is started has,
and costs a fifth of its CPU. What Python reads at its start (the locale, -I) is the preloaded
process's: tests of that start a process of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

FILES = ("stdin", "stdout", "stderr")
LOCK = threading.Lock()
"""Held during a call: the preloaded process answers one at a time."""


def run_forked(
    arguments: Sequence[str], environ: Mapping[str, str], stdin: bytes, cwd: Path | None
) -> subprocess.CompletedProcess[bytes]:
    """Run `quire` with these arguments to its end."""
    with tempfile.TemporaryDirectory(prefix="quire-") as folder, LOCK:
        files = {name: Path(folder, name) for name in FILES}
        files["stdin"].write_bytes(stdin)
        paths = [str(files[name]) for name in FILES]
        call = {"arguments": arguments, "environ": environ, "cwd": str(cwd or Path.cwd())}
        code = _answer(json.dumps({**call, "files": paths}))
        return subprocess.CompletedProcess(
            arguments, code, files["stdout"].read_bytes(), files["stderr"].read_bytes()
        )


def _answer(call: str) -> int:
    calls, codes = _preloaded().stdin, _preloaded().stdout
    assert calls is not None
    assert codes is not None
    calls.write(f"{call}\n")
    calls.flush()
    return int(codes.readline())


@cache
def _preloaded() -> subprocess.Popen[str]:
    """Start the preloaded process, which ends when its standard input is closed."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.forked_quire"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def _main() -> None:
    # Imported here: the test process that asks needs none of it.
    import rich.progress  # noqa: PLC0415
    import rich.table  # noqa: F401, PLC0415

    import ledger.client  # noqa: F401, PLC0415
    from tests.cli.commands import leaves  # noqa: PLC0415

    list(leaves())
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _call(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the answer


def _call(call: dict[str, Any]) -> None:
    """Be `quire` in this fork, to its end."""
    from server.cli.main import main  # noqa: PLC0415

    code: Any = 1
    try:
        _redirect(call["files"])
        os.environ.clear()
        os.environ.update(call["environ"])
        os.chdir(call["cwd"])
        sys.argv = ["quire", *call["arguments"]]
        main(prog_name="quire")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _redirect(files: Sequence[str]) -> None:
    for descriptor, path in enumerate(files):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)


if __name__ == "__main__":
    _main()
