"""What the environment says: where the server is, which proxy and certificates are used.

httpx2 reads the proxy variables and those of the TLS library by itself. Here they are named in
what goes wrong because of them: its own errors do not say where a value came from. No value
is shown, as a proxy's URL may hold a password.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment

import httpx2

from ledger.client.errors import InvalidArgumentError

URL_VARIABLE = "QUIRE_URL"
DEFAULT_URL = "http://127.0.0.1:8080"
_PROXY_SCHEMES = ("http", "https")
_TLS_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def server_url(given: str | None) -> str:
    """Return the server's address: the given one, that of QUIRE_URL, or this machine's."""
    return given if given is not None else os.environ.get(URL_VARIABLE) or DEFAULT_URL


@contextmanager
def blaming_surroundings() -> Iterator[None]:
    """Turn what fails while a client is made into InvalidArgumentError, naming the variable."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidArgumentError(
            f"the certificates that servers are trusted by can't be loaded: {_tls_at_fault()}"
            f"{reason}"
        ) from error
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        variable = _unusable_proxy()
        if variable is None:
            raise InvalidArgumentError(f"no connection can be set up: {error}") from error
        raise InvalidArgumentError(
            f"the proxy that {variable} names can't be used: it must be http://host:port or "
            "https://host:port. Correct the variable, or unset it"
        ) from error


def proxy_variable(url: str) -> str | None:
    """Return the name of the variable whose proxy requests to this URL go through, or None."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        bypassed = proxy_bypass_environment(f"{host}:{parts.port}" if parts.port else host)
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
    url = value if "://" in value else f"http://{value}"
    try:
        return httpx2.Proxy(url).url.scheme in _PROXY_SCHEMES
    except (ValueError, httpx2.InvalidURL):
        return False


def _tls_at_fault() -> str:
    named = [f"{name} ({os.environ[name]!r})" for name in _TLS_VARIABLES if os.environ.get(name)]
    return f"{', '.join(named)}: " if named else ""
