"""How the client commands find the server and the API key."""

import codecs
import contextlib
import functools
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Concatenate, ParamSpec, TypeVar

import click
import httpx2
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from ledger.client import LedgerClient
from ledger.client.transport import checked_url, require_private
from ledger.malformed import mark_of
from ledger.surroundings import DEFAULT_URL, is_loopback
from server.cli.base.output import print_message
from server.cli.base.root import CommandFailure

P = ParamSpec("P")
R = TypeVar("R")

PLATFORM_KEY = "platform.key"
ATTEMPTS = 4
"""A person waits: an unreachable server is reported after about a second."""
PATIENT_ATTEMPTS = 12
"""A long append survives a restart of the server."""
_KEY_BYTES_MAX = 4096
_QUIET_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Connection:
    """The address of the server that a command calls, and the API key that it sends."""

    url: str
    api_key: str = field(repr=False)
    insecure_http: bool | None = None

    def client(self, org: str | None = None, *, attempts: int = ATTEMPTS) -> LedgerClient:
        """Return a client for an org's trail; the caller closes it."""
        return LedgerClient(
            self.url, self.api_key, org, attempts=attempts, insecure_http=self.insecure_http
        )

    def own_org(self) -> str:
        """Return the org that the API key belongs to. Raises UsageError for a platform key."""
        with self.client() as client:
            org = client.whoami().org
        if org is None:
            raise click.UsageError(
                "The API key is a platform key and belongs to no org: name the org."
            )
        return org


def client_command(
    function: Callable[Concatenate[Connection, P], R],
) -> Callable[P, R]:
    """Decorator: adds `--url`, `--api-key-file` and `--insecure-http`, and passes the Connection.

    An option or argument `org` that was left out becomes the org of the API key.
    """

    @click.option(
        "--url",
        envvar="QUIRE_URL",
        default=DEFAULT_URL,
        show_default=True,
        help="Address of the server (QUIRE_URL).",
    )
    @click.option(
        "--api-key-file",
        type=click.File("rb"),
        help="File that holds the API key; overrides QUIRE_API_KEY.",
    )
    @click.option(
        "--insecure-http",
        is_flag=True,
        default=None,
        help="Send the key to another machine by plain http too (QUIRE_INSECURE_HTTP=true).",
    )
    @functools.wraps(function)
    def command(*args: P.args, **options: P.kwargs) -> R:
        url, file = checked_url(str(options.pop("url"))), options.pop("api_key_file")
        insecure = True if options.pop("insecure_http") else None
        set_on_retry_hooks([_report_retry])
        connection = Connection(url, _api_key(url, file), insecure)  # type: ignore[arg-type]
        require_private(url, insecure)
        if options.get("org", "") is None:
            options["org"] = connection.own_org()
        return function(connection, *args, **options)

    return command


def _api_key(url: str, file: BinaryIO | None) -> str:
    """Return the API key of the file, of QUIRE_API_KEY or of platform.key, in this order."""
    if file is not None:
        return _decoded(file.read(_KEY_BYTES_MAX), f"the file {file.name}")
    if key := os.environ.get("QUIRE_API_KEY"):
        return key
    path = Path(os.environ.get("QUIRE_DATA_DIR") or ".quire") / PLATFORM_KEY
    with contextlib.suppress(RuntimeError):  # "~" without a known home directory
        path = path.expanduser()
    # The platform key of this machine's server must not be sent to another machine.
    if _is_local(url):
        try:
            with path.open("rb") as own:
                return _decoded(own.read(_KEY_BYTES_MAX), f"the file {path}")
        except OSError:
            why = "cannot be read"
    else:
        why = "is only used for a server on this machine"
    raise CommandFailure(f"No API key: set QUIRE_API_KEY or give --api-key-file ({path} {why}).")


def _decoded(content: bytes, source: str) -> str:
    key = content.removeprefix(codecs.BOM_UTF8).strip()
    if mark := mark_of(key):
        raise CommandFailure(f"The API key in {source} can't be read: {mark}.")
    if not key or not key.isascii() or len(key.split()) != 1:
        raise CommandFailure(f"There is no API key in {source}.")
    return key.decode()


def _is_local(url: str) -> bool:
    """Return whether a URL is this machine's, also by what its host's name resolves to now."""
    host = httpx2.URL(url).host
    if not is_loopback(host):
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return True  # nothing can be sent there
    return all(is_loopback(str(address[0])) for *_, address in found)


def _report_retry(details: RetryDetails) -> None:
    """Print why the command waits; stamina's own hook would log to standard output."""
    if details.wait_for >= _QUIET_SECONDS:
        print_message(f"{details.caused_by}; trying again in {details.wait_for:.0f} s")
