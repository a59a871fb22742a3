"""A process whose supervisor is gone ends, even if it does not heed the signal to stop."""

from __future__ import annotations

import subprocess
import sys

import psutil

from tests.support.waiting import PATIENCE_S

DEAF = """
import multiprocessing, os, signal, time
from server.process.children.context import STOP_S, follow_supervisor

def deaf(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    follow_supervisor(0.5 - STOP_S)
    ready.send(os.getpid())
    time.sleep(600)

if __name__ == "__main__":
    here, there = multiprocessing.Pipe()
    multiprocessing.get_context("fork").Process(target=deaf, args=(there,)).start()
    print(here.recv(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_does_not_heed_its_stop_is_killed_when_its_supervisor_is_gone() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", DEAF], stdout=subprocess.PIPE, check=False, text=True
    )
    assert ran.returncode == -9
    try:
        deaf = psutil.Process(int(ran.stdout))
    except psutil.NoSuchProcess:
        return
    deaf.wait(PATIENCE_S)
