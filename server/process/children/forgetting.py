"""Removes the database's logins from the environment of a process, and from the memory that shows it."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import Final

from server.settings import LOGIN_URLS
from server.settings.environment import variable

_NAMES: Final = tuple(variable(name) for name in LOGIN_URLS)


def forget_logins() -> None:
    """Remove the logins, so that nothing inherits them and /proc/PID/environ shows none.

    A forked process has the environment with which its parent was started in its memory, where the
    removal of a variable leaves the text.
    """
    with suppress(AttributeError, ValueError):  # a C library without this symbol
        _wipe(tuple(os.fsencode(f"{name}=") for name in _NAMES))
    for name in _NAMES:
        os.environ.pop(name, None)


def _wipe(beginnings: tuple[bytes, ...]) -> None:
    """Overwrite the variables that begin so, in place: ``environ`` of environ(7)."""
    entries = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    index = 0
    while address := entries[index]:
        text = ctypes.string_at(address)
        for beginning in beginnings:
            if text.startswith(beginning):
                ctypes.memset(address + len(beginning), 0, len(text) - len(beginning))
        index += 1
