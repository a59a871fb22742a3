"""CPU seconds, user and system, of a running server: its processes, PostgreSQL and the signer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Self

import psutil


class Cpu(NamedTuple):
    """CPU seconds by part; an ended process counts for the parent that waited for it."""

    server: float
    postgres: float
    signer: float

    @property
    def total(self) -> float:
        return self.server + self.postgres + self.signer

    def since(self, earlier: Cpu) -> Cpu:
        """Return the CPU used since an earlier reading."""
        return Cpu(*(now - then for now, then in zip(self, earlier, strict=True)))

    def per(self, events: int) -> Cpu:
        """Return microseconds per event."""
        return Cpu(*(seconds / events * 1e6 for seconds in self))

    @classmethod
    def read(cls, supervisor: int, data_directory: Path) -> Self:
        """Read the CPU of `quire serve` with this process id and data directory."""
        postmaster = _postmaster(data_directory)
        server, signer = 0.0, 0.0
        for process in _tree(supervisor):
            if process.pid == postmaster or postmaster in _parents(process):
                continue
            # A forked process has the command line of its parent, and a name of its own.
            if any("signer" in word for word in (process.name(), *process.cmdline())):
                signer += _seconds(process)
            else:
                server += _seconds(process)
        return cls(server, sum(_seconds(process) for process in _tree(postmaster)), signer)


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _parents(process: psutil.Process) -> list[int]:
    return [parent.pid for parent in process.parents()]


def _postmaster(data_directory: Path) -> int:
    text = (data_directory / "postgres" / "data" / "postmaster.pid").read_text()
    return int(text.splitlines()[0])


def _seconds(process: psutil.Process) -> float:
    try:
        return sum(process.cpu_times()[:4])
    except psutil.NoSuchProcess:  # it has just ended: its time counts for its parent
        return 0.0
