"""Runs `quire` on a pseudo-terminal of 80 columns and collects its output."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from typing import NamedTuple

from tests.cli.commands import QUIRE, TIMEOUT_SECONDS, environment

# The first terminal that the leader of a new session opens becomes its controlling one: only that
# turns ^C into a signal.
_TAKE_TERMINAL = 'exec "$@" <"$0" >"$0" 2>&1'
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Session(NamedTuple):
    """The output that the terminal received, and the exit code."""

    raw: str
    exit_code: int

    @property
    def text(self) -> str:
        """The output without its control sequences."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n")


def on_terminal(
    *arguments: str, settings: Mapping[str, str], prompt: str = "", typed: str = ""
) -> Session:
    """Run `quire` on a terminal of its own; `typed` is typed after the prompt has appeared."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        ["sh", "-c", _TAKE_TERMINAL, os.ttyname(theirs), *QUIRE, *arguments],
        env={**environment(settings), "TERM": "xterm-256color"},
        start_new_session=True,
    ) as process:
        try:
            raw = _converse(ours, theirs, prompt.encode(), typed.encode())
            exit_code = process.wait(TIMEOUT_SECONDS)
        finally:
            process.kill()
            os.close(ours)
    return Session(raw.decode(), exit_code)


def _converse(ours: int, theirs: int, prompt: bytes, typed: bytes) -> bytes:
    """Type after the prompt, and read until the command closes the terminal.

    The input is typed again after a second without output: Python notices a ^C that arrives just
    before it waits for input only with the next key.
    """
    received, deadline = b"", time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        ready, _, _ = select.select([ours], [], [], 1)
        seen = prompt in received
        if ready:
            if theirs:  # the command has written, so it has opened the terminal itself
                os.close(theirs)
                theirs = 0
            try:
                received += os.read(ours, 65536)
            except OSError:  # how Linux reports that the other side has closed
                return received
        if typed and prompt in received and not (ready and seen):
            os.write(ours, typed)
    raise TimeoutError(received)
