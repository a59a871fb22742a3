"""`quire` on a terminal of 80 columns: its output as a person's terminal gets it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping
from typing import NamedTuple

from tests.cli.commands import QUIRE, TIMEOUT_SECONDS, environment

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Session(NamedTuple):
    """What the terminal got, and the exit code."""

    raw: str
    exit_code: int

    @property
    def text(self) -> str:
        """The output without its control sequences."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n")


def on_terminal(*arguments: str, settings: Mapping[str, str], typed: str = "") -> Session:
    """Run `quire` with a terminal as its input and output; `typed` is waiting to be read."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {"TERM": "xterm-256color", **environment(settings)}
    with subprocess.Popen(
        [*QUIRE, *arguments], env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        raw = _read_all(ours)
        exit_code = process.wait(TIMEOUT_SECONDS)
    os.close(ours)
    return Session(raw.decode(), exit_code)


def _read_all(descriptor: int) -> bytes:
    received = b""
    try:
        while chunk := os.read(descriptor, 65536):
            received += chunk
    except OSError:  # how Linux reports that the other side has closed
        pass
    return received
