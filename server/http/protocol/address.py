"""The address of a request's client: the peer's, or the one that trusted proxies report.

Every process of a server decides it once for each request, in :class:`BoundedProtocol`, from the
rules of the settings. Everything that needs an address reads it by :func:`address_of`.

Behind a peer in the trusted ranges, the hops of X-Forwarded-For are read from the right, because
each proxy appends the peer that it saw. The first hop that is not trusted is the client: everything
left of it was sent by the client itself. A hop that can't be read hides the client, so the peer
counts. X-Real-IP and all other headers are never read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from server.addresses import Address, ClientAddress, Network, address, client, contains

ADDRESS: Final = "address"
"""The key in a request's state of its client's address."""
PROXY_RULES: Final = "proxy_rules"
"""The key in the state of the application of the rules; uvicorn copies it to each request."""
MAX_HOPS: Final = 64
"""Hops that are read; behind more of them the peer counts."""
X_FORWARDED_FOR: Final = b"x-forwarded-for"
FORWARDED: Final = b"forwarded"

MAX_ELEMENT_BYTES: Final = 1_024
"""The longest element of Forwarded that is read."""

_OWS: Final = b" \t"
_IPV4: Final = re.compile(rb"([0-9.]{7,15})(?::([0-9]{1,5}))?")
_BRACKETED: Final = re.compile(rb"\[([0-9A-Fa-f]*:[0-9A-Fa-f:.]{1,44})\](?::([0-9]{1,5}))?")
_BARE_IPV6: Final = re.compile(rb"([0-9A-Fa-f]*:[0-9A-Fa-f:.]{1,44})()")
_OBFUSCATED_PORT: Final = re.compile(rb":_[A-Za-z0-9._-]+\Z")
"""RFC 7239, section 6.3."""
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR: Final = re.compile(rb"(" + _TOKEN + rb")=(?:(" + _TOKEN + rb')|"((?:[^"\\]|\\.)*)")')
_BETWEEN_PAIRS: Final = re.compile(rb"[ \t]*(?:;[ \t]*)+|\Z")
_PORT_MAX: Final = 65_535
_UNREADABLE: Final = b"?"
_ANY: Final = address("0.0.0.0")  # noqa: S104 - no listener: the peer of a socket that has none

Headers = Sequence[tuple[bytes, bytes]]


class ProxyRules(NamedTuple):
    """The proxies whose word is taken, and the only header that they send it in."""

    trusted: tuple[Network, ...] = ()
    header: bytes = X_FORWARDED_FOR


NO_PROXIES: Final = ProxyRules()


class ConnectionPeer(NamedTuple):
    """The other end of a connection; only what a trusted one forwards is read."""

    address: ClientAddress
    is_trusted: bool


def peer_of(host: str | None, rules: ProxyRules) -> ConnectionPeer:
    """Return the peer with this address; a socket that has none (a Unix socket's) is 0.0.0.0."""
    try:
        ip = address((host or "").partition("%")[0])
    except ValueError:
        ip = _ANY
    return ConnectionPeer(client(ip), contains(rules.trusted, ip))


def client_address(peer: ConnectionPeer, headers: Headers, rules: ProxyRules) -> ClientAddress:
    """Return the address of the client whose request came from this peer with these headers."""
    if not peer.is_trusted:
        return peer.address
    hops = _hops(headers, rules.header)
    for _ in range(MAX_HOPS):
        hop = next(hops, None)
        found = None if hop is None else _address_of_hop(hop, rules.header)
        if found is None:
            return peer.address
        if not contains(rules.trusted, found):
            return client(found)
    return peer.address


def address_of(scope: Mapping[str, Any]) -> ClientAddress:
    """Return the client's address of a request, from its scope."""
    found: ClientAddress | None = scope["state"].get(ADDRESS)
    if found is None:  # not from a connection of this server's protocol
        host, _ = scope.get("client") or (None, 0)
        return peer_of(host, NO_PROXIES).address
    return found


def note_address(scope: Any, peer: ConnectionPeer, headers: Headers) -> None:
    """Store the client's address of a request in its scope, also as the ASGI ``client``."""
    state = scope["state"]
    if not peer.is_trusted:
        state[ADDRESS] = peer.address
        return
    found = state[ADDRESS] = client_address(peer, headers, state.get(PROXY_RULES, NO_PROXIES))
    if found is not peer.address:
        scope["client"] = (str(found), 0)  # the port at the proxy is not the client's


def _hops(headers: Headers, name: bytes) -> Iterator[bytes]:
    """Yield the elements of all lines of a list header, the last first, without empty ones.

    RFC 9110, sections 5.3 and 5.6.1.2. Elements of Forwarded may hold commas in quoted strings.
    """
    split = _from_the_right if name == FORWARDED else _by_commas
    for line, value in reversed(headers):
        if line == name:
            yield from (hop for part in split(value) if (hop := part.strip(_OWS)))


def _by_commas(value: bytes) -> Iterator[bytes]:
    return reversed(value.rsplit(b",", MAX_HOPS))


def _from_the_right(value: bytes) -> Iterator[bytes]:
    """Yield the elements of a Forwarded header, the last first.

    Quotes are followed from the right, so that a quote which a client left open does not reach the
    elements that proxies appended behind it.
    """
    quoted, end = False, len(value)
    for at in range(len(value) - 1, -1, -1):
        if end - at > MAX_ELEMENT_BYTES:
            yield _UNREADABLE
            return
        char = value[at]
        if char == 0x22 and not (quoted and _is_escaped(value, at)):
            quoted = not quoted
        elif char == 0x2C and not quoted:
            yield value[at + 1 : end]
            end = at
    yield value[:end]


def _is_escaped(value: bytes, at: int) -> bool:
    backslashes = 0
    while backslashes < at and value[at - 1 - backslashes] == 0x5C:
        backslashes += 1
    return backslashes % 2 == 1


def _address_of_hop(hop: bytes, header: bytes) -> Address | None:
    """Return the address of one hop; None for an obfuscated, unknown or malformed one."""
    if header != FORWARDED:
        return _address_of(
            _IPV4.fullmatch(hop) or _BRACKETED.fullmatch(hop) or _BARE_IPV6.fullmatch(hop)
        )
    node = _OBFUSCATED_PORT.sub(b"", _for_node(hop) or b"")
    return _address_of(_IPV4.fullmatch(node) or _BRACKETED.fullmatch(node))


def _address_of(node: re.Match[bytes] | None) -> Address | None:
    if node is None or int(node[2] or 0) > _PORT_MAX:
        return None
    try:
        return address(node[1].decode("ascii"))
    except ValueError:
        return None


def _for_node(element: bytes) -> bytes | None:
    """Return the node of the only parameter ``for`` of a Forwarded element (RFC 7239, section 4)."""
    nodes, at = [], 0
    while at < len(element):
        pair = _PAIR.match(element, at)
        between = None if pair is None else _BETWEEN_PAIRS.match(element, pair.end())
        if pair is None or between is None:
            return None
        name, token, quoted = pair.groups()
        if name.lower() == b"for":
            nodes.append(token if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted))
        at = between.end()
    return nodes[0] if len(nodes) == 1 else None
