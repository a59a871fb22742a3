"""The HTTP parts that both clients share: settings, the API key, and connection errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import httpx2

from ledger import __version__
from ledger.client.errors import (
    ConnectFailedError,
    ConnectionLostError,
    InvalidArgumentError,
    LedgerError,
    ProblemError,
)
from ledger.client.protocol import PROBLEM_TYPES, Call, Reply, retry
from ledger.surroundings import (
    INSECURE_VARIABLE,
    insecure_http,
    is_loopback,
    own_machine_options,
    proxy_variable,
    server_url,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

# Without this, Python prints stamina's message on each retry in a program without logging.
logging.getLogger("stamina").addHandler(logging.NullHandler())

DEFAULT_TIMEOUT_SECONDS = 30.0
DEFAULT_ATTEMPTS = 8
CHUNK_BYTES = 1 << 20
"""Bytes of a stream that are written to a file at a time."""
RETRY_SECONDS = 60.0
"""No attempt begins later than this after the first one."""

_PORT_MAX = 65_535
_HOST_CHARS_MAX = 253
_OPEN_BRACKET = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*\[[^\]/?#]*(?:[/?#]|\Z)")
_ERRNO = re.compile(r"\[Errno -?\d+\] ")
_NOT_IN_HOSTS = frozenset(' %*\\"<>^`{|}')
_NO_CONNECTION = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
BEFORE_SENDING = (httpx2.InvalidURL, UnicodeError)
"""Raised by httpx2, beside its RequestError, for a host that can't be resolved at all."""

# Identity: a compressed answer could grow without bound when it is decompressed.
_HEADERS = {"user-agent": f"quire-client/{__version__}", "accept-encoding": "identity"}


class ClientOptions(TypedDict):
    """The arguments of an httpx2 client, sync or async."""

    base_url: str
    auth: httpx2.Auth
    timeout: httpx2.Timeout
    headers: Mapping[str, str]
    follow_redirects: bool
    trust_env: NotRequired[bool]
    verify: NotRequired[ssl.SSLContext]


class BearerAuth(httpx2.Auth):
    """Adds the API key to requests and keeps it out of any repr."""

    def __init__(self, api_key: str) -> None:
        self._authorization = f"Bearer {api_key}"

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["authorization"] = self._authorization
        yield request


@dataclass(frozen=True, slots=True)
class Server:
    """The server's address and the connection's settings. The repr omits the key."""

    url: str
    auth: BearerAuth
    timeout_seconds: float
    attempts: int

    def options(self) -> ClientOptions:
        return {
            "base_url": self.url,
            "auth": self.auth,
            "timeout": httpx2.Timeout(self.timeout_seconds),
            "headers": _HEADERS,
            "follow_redirects": False,  # the key goes to no other address
            **own_machine_options(self.url),
        }


def server_at(
    url: str | None,
    api_key: str | None,
    timeout_seconds: float,
    attempts: int,
    insecure: bool | None = None,
) -> Server:
    """Check a client's arguments. Raises InvalidArgumentError, whose text never has the key."""
    if api_key is None:
        raise InvalidArgumentError("give the client an API key: api_key=…")
    key = api_key.strip()  # a key read from a file ends with a newline
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidArgumentError("the API key is empty or has characters that no key has")
    if attempts < 1 or timeout_seconds <= 0:
        raise InvalidArgumentError("attempts must be at least 1, and timeout more than 0")
    checked = checked_url(server_url(url))
    require_private(checked, insecure)
    return Server(checked, BearerAuth(key), timeout_seconds, attempts)


def require_private(url: str, insecure: bool | None) -> None:
    """Raise InvalidArgumentError if an API key would go to another machine by plain http."""
    parsed = httpx2.URL(url)
    if parsed.scheme == "https" or is_loopback(parsed.host) or insecure_http(insecure):
        return
    raise InvalidArgumentError(
        f"http://{parsed.host} is another machine, and plain http would show the API key to the "
        "network on the way: use https. In a network that you trust, allow it with --insecure-http, "
        f"{INSECURE_VARIABLE}=true, or insecure_http=True"
    )


def checked_url(url: str) -> str:
    """Return a server's URL without a slash at its end. Raises InvalidArgumentError."""
    if _OPEN_BRACKET.match(url):
        raise InvalidArgumentError(
            'the server\'s URL has an IPv6 address that is not closed by "]": write '
            "http://[ADDRESS]:PORT"
        )
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:  # not UTF-8, among others
        raise InvalidArgumentError(f"the server's URL can't be read: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidArgumentError(
            "the server's URL must be http://host or https://host, with :port where it needs one"
        )
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise InvalidArgumentError("the server's URL must have no user, query or fragment")
    if not _is_host(parsed) or not (parsed.port is None or 0 < parsed.port <= _PORT_MAX):
        raise InvalidArgumentError(
            "the server's URL has an invalid host: check the name (at most 63 characters between "
            f"two dots) and the port (1 to {_PORT_MAX})"
        )
    return str(parsed).rstrip("/")


def _is_host(url: httpx2.URL) -> bool:
    """Return whether the system's resolver takes this host; it raises for an invalid label."""
    host = url.raw_host.decode("ascii")
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return len(host) <= _HOST_CHARS_MAX and not _NOT_IN_HOSTS & set(host)


def request_of(client: httpx2.Client | httpx2.AsyncClient, call: Call[Any]) -> httpx2.Request:
    """Return ``call`` as a request of ``client``."""
    usual = client.timeout
    timeout = httpx2.Timeout(
        connect=usual.connect,
        read=None if usual.read is None else max(usual.read, call.patience_seconds),
        write=usual.write,
        pool=usual.pool,
    )
    return client.build_request(
        call.method,
        call.path,
        params=call.query,
        headers=call.headers,
        content=call.body,
        timeout=timeout,
    )


def reply_of(response: httpx2.Response) -> Reply:
    return Reply(response.status_code, response.headers, response.content)


def head_of(response: httpx2.Response) -> Reply:
    """Return a reply without its body, which is a stream; a refusal has its body, read before."""
    body = response.content if response.is_closed else b""
    return Reply(response.status_code, response.headers, body)


def wire_error(error: Exception, server: Server) -> LedgerError:
    """Return the error that a connection error means for the caller."""
    variable = proxy_variable(server.url)
    by = f" through the proxy that {variable} names" if variable else ""
    if isinstance(error, BEFORE_SENDING):
        return InvalidArgumentError(
            f"can't connect to {server.url}{by}: the host's name is not valid"
        )
    if isinstance(error, _NO_CONNECTION):
        reason = _ERRNO.sub("", str(error)) or f"no connection within {server.timeout_seconds:g} s"
        return ConnectFailedError(f"can't connect to {server.url}{by}: {reason}")
    # Not the error's own message: that of a LocalProtocolError may quote a header.
    fault = "timed out" if isinstance(error, httpx2.TimeoutException) else "broke"
    return ConnectionLostError(
        f"the connection to {server.url}{by} {fault} before the answer was complete; the server "
        "may have carried out the call"
    )


def name_proxy(error: LedgerError, server: Server) -> None:
    """Add to an error that is not from Quire the name of the proxy that may have caused it."""
    if isinstance(error, ProblemError) and not error.problem.type.startswith(PROBLEM_TYPES):
        variable = proxy_variable(server.url)
        if variable is not None:
            error.hint = (
                f"This answer is not from Quire; the proxy that {variable} names may have refused"
            )


class Retries(TypedDict):
    """The arguments of stamina's ``retry_context``."""

    on: Callable[[Exception], bool | float]
    attempts: int
    timeout: float
    wait_initial: float
    wait_max: float
    wait_jitter: float


def retries(call: Call[Any], server: Server) -> Retries:
    """Return the retry settings of ``call``: after the protocol's errors, with growing waits."""
    return {
        "on": lambda error: retry(error, repeatable=call.repeatable),
        "attempts": server.attempts,
        "timeout": RETRY_SECONDS,
        "wait_initial": 0.1,
        "wait_max": 5.0,
        "wait_jitter": 0.2,
    }
