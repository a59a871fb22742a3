"""Describes why a connection to the database could not be opened, by the names that were given.

The errors of asyncpg and of the TLS library name neither the file at fault nor its setting.
"""

from __future__ import annotations

import errno
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

_TLS_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_OF_A_FILE: Final = (errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR)
_ERRNO: Final = re.compile(r"\[Errno -?\d+\] ")
_ADDRESS: Final = re.compile(r"\('([^']*)', (\d+)(?:, \d+)*\)")
_CHOICES: Final = re.compile(r"<built-in method values of .*?>")
SESSION_ATTRIBUTES: Final = "any, primary, standby, prefer-standby, read-write, read-only"


@contextmanager
def naming_files(url: str) -> Iterator[None]:
    """Name the files of the URL, or of PG… variables, in an error that they cause in the block."""
    try:
        yield
    except OSError as error:
        named = _named(url, error)
        if named is None:
            raise
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"{named}: {reason}") from error


def plain_text(error: BaseException) -> str:
    """Return an error's text on one line, without the forms in which Python shows its values."""
    # PostgreSQL puts details and hints on further lines; a log message has one line.
    text = _ERRNO.sub("", " ".join(str(error).split("\n")))
    text = _ADDRESS.sub(r"\1 port \2", text).replace("`", '"')
    return _CHOICES.sub(SESSION_ATTRIBUTES, text)


def _named(url: str, error: OSError) -> str | None:
    """Return what an error of a file without a name is about; None for any other error."""
    certificates = isinstance(error, ssl.SSLError) and "CERTIFICATE_VERIFY" not in str(error)
    if error.filename is not None or not (certificates or error.errno in _OF_A_FILE):
        return None
    query = dict(parse_qsl(urlsplit(url).query))
    files = {name: query.get(name) or os.environ.get(f"PG{name.upper()}") for name in _TLS_FILES}
    given = {name: path for name, path in files.items() if path}
    unreadable = {name: path for name, path in given.items() if not _is_readable(path)}
    if unreadable or certificates:
        return (
            ", ".join(f"{name} names {path}" for name, path in (unreadable or given).items())
            or None
        )
    host = query.get("host") or unquote(urlsplit(url).netloc.rpartition("@")[2])
    host = host or os.environ.get("PGHOST", "")
    if host.startswith("/"):
        return f"PostgreSQL's socket in {host}"
    return None if host else "PostgreSQL's socket on this machine"


def _is_readable(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.R_OK)
