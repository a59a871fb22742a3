"""Environment variables of an HTTP client: the server's URL, proxies and TLS certificates.

No proxy is used for this machine: it would get the API key, and answer for its own machine.

httpx2 reads the variables for proxies and the TLS library itself, but its errors do not name
the variable at fault. The errors raised here do. They omit a proxy's URL, which may hold a
password.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from ledger.errors import QuireError

if TYPE_CHECKING:
    import ssl

URL_VARIABLE = "QUIRE_URL"
INSECURE_VARIABLE: Final = "QUIRE_INSECURE_HTTP"
"""Where it is true, keys may be sent to other machines by plain http."""
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
DEFAULT_URL = "http://127.0.0.1:8080"
_PROXY_SCHEMES = ("http", "https")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_TLS_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def server_url(given: str | None) -> str:
    """Return the server's URL: the given one, or QUIRE_URL, or the default of this machine."""
    return given if given is not None else os.environ.get(URL_VARIABLE) or DEFAULT_URL


def insecure_http(given: bool | None) -> bool:
    """Return whether keys may be sent by plain http: as given, or as QUIRE_INSECURE_HTTP says."""
    if given is not None:
        return given
    return os.environ.get(INSECURE_VARIABLE, "").strip().lower() in _TRUE


def is_loopback(host: str) -> bool:
    """Return whether a host of a URL is this machine, in any form that resolvers take.

    ``localhost`` and names below it (RFC 6761, section 6.3), 127.0.0.0/8 also as ``127.1``,
    ``2130706433`` or ``0x7f000001``, ``::1``, mapped IPv4 addresses, and the unspecified addresses,
    which connect to this machine.
    """
    name = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address is not None and (address.is_loopback or int(address) == 0)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    if not text or not set(text) <= set("0123456789abcdefx."):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text))  # short, decimal, octal, hexadecimal
    except OSError:
        return None


class OwnMachineOptions(TypedDict, total=False):
    """The arguments of an httpx2 client for a URL that no proxy may see; empty for others."""

    trust_env: bool
    verify: ssl.SSLContext


def own_machine_options(url: str) -> OwnMachineOptions:
    """Return the options that keep requests to a loopback URL from the proxies of the environment.

    Certificates of the environment are used all the same.
    """
    import httpx2  # noqa: PLC0415 - slow to load, and not needed for the rest

    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):  # reported where the URL is used
        return {}
    if not is_loopback(parsed.host):
        return {}
    return {"trust_env": False, "verify": httpx2.create_ssl_context()}


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
    if bypassed or is_loopback(host):
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
