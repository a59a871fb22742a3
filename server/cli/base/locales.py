"""Makes commands independent of the locale: names and paths are UTF-8.

Python switches to UTF-8 by itself in the locale C, but not with PYTHONUTF8=0, and a terminal of
another encoding can't show every name.
"""

import codecs
import contextlib
import io
import os
import sys


def use_utf8() -> None:
    """Read arguments and paths as UTF-8 even in an ASCII locale, and print any text.

    In an ASCII locale this process executes itself again, once, in Python's UTF-8 mode, which its
    child processes inherit. ASCII output streams switch to UTF-8, as click's messages do; streams
    of another encoding show characters that they lack as escapes.
    """
    if _is_ascii(sys.getfilesystemencoding()) and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"
        with contextlib.suppress(OSError):
            os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - itself
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = "utf-8" if _is_ascii(stream.encoding) else stream.encoding
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def _is_ascii(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name == "ascii"
    except LookupError:
        return False
