"""What the environment says: where the server is, which proxy and certificates are used.

httpx2 reads the proxy variables and those of the TLS library by itself. Here they are named in
what goes wrong because of them: its own errors do not say where a value came from. No value
is shown, as a proxy's URL may hold a password.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from ledger.errors import QuireError

URL_VARIABLE = "QUIRE_URL"
DEFAULT_URL = "http://127.0.0.1:8080"
_PROXY_SCHEMES = ("http", "https")
_TLS_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def server_url(given: str | None) -> str:
    """Return the server's address: the given one, that of QUIRE_URL, or this machine's."""
    return given if given is not None else os.environ.get(URL_VARIABLE) or DEFAULT_URL


@contextmanager
def blaming_surroundings(kind: type[QuireError]) -> Iterator[None]:
    """Turn what fails while an HTTP client is made into this error, naming the variable."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise kind(
            f"the certificates that servers are trusted by can't be loaded: {_tls_at_fault()}"
            f"{reason}"
        ) from error
    except Exception as error:  # ImportError, ValueError, InvalidURL: what proxies can be
        variable = _unusable_proxy()
        if variable is None:
            raise kind(f"no connection can be set up: {error}") from error
        raise kind(
            f"the proxy that {variable} names can't be used: it must be http://host:port or "
            "https://host:port. Correct the variable, or unset it"
        ) from error


def proxy_variable(url: str) -> str | None:
    """Return the name of the variable whose proxy requests to this URL go through, or None."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        bypassed = proxy_bypass(f"{host}:{parts.port}" if parts.port else host)
    except ValueError:
        return None
    if bypassed:
        return None
    found = _proxies()
    return next((found[k] for k in (f"{parts.scheme}_proxy", "all_proxy") if k in found), None)


def _proxies() -> Mapping[str, str]:
    """The variables that name a proxy, by their lower-case names; lower case wins, as in httpx2."""
    names = sorted(name for name, value in os.environ.items() if value)  # upper case comes first
    wanted = ("http_proxy", "https_proxy", "all_proxy")
    found = {name.lower(): name for name in names if name.lower() in wanted}
    if "REQUEST_METHOD" in os.environ and found.get("http_proxy") == "HTTP_PROXY":
        del found["http_proxy"]  # in a CGI script it is a header of the caller's request
    return found


def _unusable_proxy() -> str | None:
    return next((name for name in _proxies().values() if not _is_proxy(os.environ[name])), None)


def _is_proxy(value: str) -> bool:
    import httpx2  # noqa: PLC0415 - slow to load, and loaded where a client was to be made

    url = value if "://" in value else f"http://{value}"
    try:
        return httpx2.Proxy(url).url.scheme in _PROXY_SCHEMES
    except (ValueError, httpx2.InvalidURL):
        return False


def _tls_at_fault() -> str:
    """The variables that name files of the TLS library: those without a file, else all."""
    given = {name: os.environ[name] for name in _TLS_VARIABLES if os.environ.get(name)}
    missing = {name: value for name, value in given.items() if not Path(value).exists()}
    named = ", ".join(f"{name} names {value!r}" for name, value in (missing or given).items())
    return f"{named}: " if named else ""
