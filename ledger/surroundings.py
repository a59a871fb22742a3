"""Environment variables of an HTTP client: the server's URL, proxies and TLS certificates.

httpx2 reads the variables for proxies and the TLS library itself, but its errors do not name
the variable at fault. The errors raised here do. They omit a proxy's URL, which may hold a
password.
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
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_TLS_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def server_url(given: str | None) -> str:
    """Return the server's URL: the given one, or QUIRE_URL, or the default of this machine."""
    return given if given is not None else os.environ.get(URL_VARIABLE) or DEFAULT_URL


@contextmanager
def blaming_surroundings(kind: type[QuireError]) -> Iterator[None]:
    """Turn errors that occur while an HTTP client is made into ``kind``, naming the variable."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise kind(
            f"the trusted certificates can't be loaded: {_tls_at_fault()}{reason}"
        ) from error
    except Exception as error:  # ImportError, ValueError or InvalidURL for an unusable proxy
        variable = _unusable_proxy()
        if variable is None:
            raise kind(f"the HTTP client can't be set up: {error}") from error
        raise kind(
            f"the proxy that {variable} names can't be used: it must be http://host:port or "
            "https://host:port. Correct the variable, or unset it"
        ) from error


def proxy_variable(url: str) -> str | None:
    """Return the name of the variable that sets the proxy for this URL, or None."""
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
    """Map lower-case names to the proxy variables that are set; lower case wins, as in httpx2."""
    names = sorted(name for name, value in os.environ.items() if value)  # upper case comes first
    found = {name.lower(): name for name in names if name.lower() in _PROXY_VARIABLES}
    if "REQUEST_METHOD" in os.environ and found.get("http_proxy") == "HTTP_PROXY":
        del found["http_proxy"]  # in a CGI script a caller sets HTTP_PROXY by a request header
    return found


def _unusable_proxy() -> str | None:
    return next((name for name in _proxies().values() if not _is_proxy(os.environ[name])), None)


def _is_proxy(value: str) -> bool:
    import httpx2  # noqa: PLC0415 - slow to load, and loaded already if a client was being made

    url = value if "://" in value else f"http://{value}"
    try:
        return httpx2.Proxy(url).url.scheme in _PROXY_SCHEMES
    except (ValueError, httpx2.InvalidURL):
        return False


def _tls_at_fault() -> str:
    """Describe the variables that name TLS files: those whose file is missing, else all."""
    given = {name: os.environ[name] for name in _TLS_VARIABLES if os.environ.get(name)}
    missing = {name: value for name, value in given.items() if not Path(value).exists()}
    named = ", ".join(f"{name} names {value!r}" for name, value in (missing or given).items())
    return f"{named}: " if named else ""
