"""The sources of a log's files, a folder or a URL; both bound the bytes that they read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from ledger.errors import EvidenceError
from ledger.surroundings import blaming_surroundings, own_machine_options, proxy_variable
from ledger.tiles import MAX_BUNDLE_BYTES

if TYPE_CHECKING:
    import httpx2

FILE_BYTES_MAX: Final = MAX_BUNDLE_BYTES + (1 << 16)
"""The size of a full bundle of the largest entries, and some bytes for gzip."""
FETCHES_AT_ONCE: Final = 8
TIMEOUT_S: Final = 30.0
"""The longest wait for the next bytes of a server."""
FILE_SECONDS_MAX: Final = 300.0
"""The longest time for one whole file."""
_URL: Final = ("http://", "https://")
_NOT_THERE: Final = {404, 410}
_BUSY: Final = 429
WAIT_S_MAX: Final = 60.0
"""The longest pause that a server may ask for with ``Retry-After``."""
_LEAST_WAIT_S: Final = 0.05
"""The shortest one: a server that asks for none is not asked without a pause."""


class Source(Protocol):
    """The files of one log, by their paths below its prefix."""

    def read(self, path: str, limit: int = FILE_BYTES_MAX) -> bytes | None:
        """Read a file; None where it is missing. Raises EvidenceError, OSError."""

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes | None]:
        """Read several files."""

    def paths(self) -> Iterator[str] | None:
        """Yield the path of every file; return None where files can't be listed."""


@contextmanager
def open_source(where: str, file_seconds: float = FILE_SECONDS_MAX) -> Iterator[Source]:
    """Open the source at a folder's path or an HTTP URL. Raises EvidenceError.

    Reading a file below a URL fails after ``file_seconds``.
    """
    if not where.startswith(_URL):
        folder = Path(where.removeprefix("file://"))
        if not folder.is_dir():
            raise EvidenceError(f"{where} is neither a folder nor an http:// or https:// URL")
        yield Folder(folder)
        return
    if not where.isprintable():  # also bytes that are not UTF-8, which Python shows as surrogates
        raise EvidenceError("the URL has characters that no URL has. Check how it was typed")
    import httpx2  # noqa: PLC0415 - slow to load, and folders need none

    with blaming_surroundings(EvidenceError):
        web = httpx2.Client(
            timeout=TIMEOUT_S,
            headers={"accept-encoding": "identity"},
            **own_machine_options(where),
        )
    with web as client, ThreadPoolExecutor(FETCHES_AT_ONCE) as pool:
        yield Web(where.rstrip("/"), client, pool, file_seconds)


class Folder:
    """Files below a folder; links are not followed when they are listed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, limit: int = FILE_BYTES_MAX) -> bytes | None:
        file = self._root / path
        if not file.is_file():
            return None
        with file.open("rb") as opened:
            data = opened.read(limit + 1)
        _check_size(path, len(data), limit)
        return data

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes | None]:
        return {path: self.read(path) for path in paths}

    def paths(self) -> Iterator[str]:
        for folder, _, names in os.walk(self._root):
            prefix = Path(folder).relative_to(self._root)
            yield from ((prefix / name).as_posix() for name in sorted(names))


class _Busy(Exception):
    """The server refuses to answer now; ``wait_s`` is how long to wait."""

    def __init__(self, retry_after: str) -> None:
        super().__init__(retry_after)
        seconds = float(retry_after) if retry_after.isdecimal() else 1.0
        self.wait_s = min(max(seconds, _LEAST_WAIT_S), WAIT_S_MAX)


class Web:
    """Files below a URL, in the form of C2SP tlog-tiles."""

    def __init__(
        self, url: str, client: httpx2.Client, pool: ThreadPoolExecutor, file_seconds: float
    ) -> None:
        self._url = url
        self._client = client
        self._pool = pool
        self._file_seconds = file_seconds

    def read(self, path: str, limit: int = FILE_BYTES_MAX) -> bytes | None:
        """Read a file; a server that answers 429 is asked again after its ``Retry-After``."""
        end = time.monotonic() + self._file_seconds
        while True:
            try:
                return self._read(path, limit, end)
            except _Busy as busy:
                if time.monotonic() + busy.wait_s > end:
                    raise EvidenceError(
                        f"{self._url}/{path} can't be read: the server is asked too often, and takes "
                        "longer than this file may take. Read the log with fewer others at a time"
                    ) from None
                time.sleep(busy.wait_s)

    def _read(self, path: str, limit: int, end: float) -> bytes | None:
        """Ask for a file once. Raises EvidenceError, _Busy."""
        import httpx2  # noqa: PLC0415 - loaded already

        url = f"{self._url}/{path}"
        data = bytearray()
        try:
            with self._client.stream("GET", url) as response:
                if response.status_code in _NOT_THERE:
                    return None
                if response.status_code == _BUSY:
                    raise _Busy(response.headers.get("retry-after", ""))
                if response.status_code != httpx2.codes.OK:
                    raise EvidenceError(
                        f"{url} can't be read: the server answered with HTTP status "
                        f"{response.status_code}"
                    )
                for chunk in response.iter_raw():
                    data += chunk
                    _check_size(path, len(data), limit)
                    if time.monotonic() > end:
                        raise EvidenceError(f"{url} takes longer than {self._file_seconds:g} s")
                return bytes(data)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            # UnicodeError: the host's name can't be encoded for the resolver.
            variable = proxy_variable(url)
            by = f" through the proxy that {variable} names" if variable else ""
            raise EvidenceError(
                f"{url} can't be read{by}: {str(error) or 'the connection failed'}"
            ) from error

    def read_many(self, paths: Sequence[str]) -> dict[str, bytes | None]:
        return dict(zip(paths, self._pool.map(self.read, paths), strict=True))

    def paths(self) -> None:
        """Return None: files below a URL can't be listed."""


def _check_size(path: str, size: int, limit: int) -> None:
    if size > limit:
        raise EvidenceError(f"{path} has more than {limit} bytes, the limit for this file")
