"""The socket that a server listens on."""

import socket
from typing import Final

from server.refusal import StartupRefused

BACKLOG: Final = 2_048


def listen(host: str, port: int, options: str = "--host and --port") -> socket.socket:
    """Return a listening TCP socket; port 0 means any free port. Raises StartupRefused.

    Servers call this first, so that a busy port does not cost a database start. ``options`` name the
    settings of the address, for the message.
    """
    host = host.removeprefix("[").removesuffix("]")  # of an IPv6 address in a URL
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupRefused(
            f"Can't listen on {host} port {port}: {error.strerror}. "
            f"Choose another address with {options}."
        ) from None
    listener.set_inheritable(True)
    return listener


def address(listener: socket.socket) -> str:
    """Return the URL under which this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
