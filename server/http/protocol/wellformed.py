"""Refuses ambiguous requests: checks the request head before any route runs.

A repeated header or query parameter, text that does not decode, and framing that intermediaries
interpret differently are refused on every route, so that a request never gets the answer to
another request. An ordinary request costs one dict and three look-ups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from ledger.entry import has_control
from ledger.errors import INVALID_REQUEST, NOT_FOUND, ProblemType
from server.access.auth import token_of
from server.http.problems import (
    EXPECTATION_FAILED,
    NOT_IMPLEMENTED,
    UNSUPPORTED_TYPE,
    VERSION_NOT_SUPPORTED,
)
from server.http.protocol.reads import WHOLE_SERVER

Headers = Sequence[tuple[bytes, bytes]]

ONCE: Final = frozenset({
    b"authorization", b"content-encoding", b"content-length", b"content-type", b"expect", b"host",
    b"idempotency-key", b"transfer-encoding", b"x-api-key",
})  # fmt: skip
"""Headers that a request may have once; the others may be lists."""
SPECIAL: Final = frozenset({b"transfer-encoding", b"content-encoding", b"expect"})
"""Headers that few requests have, and that are checked further."""
HEADERS: Final = "headers"
"""The key in a request's state of its headers by name; of a header not in ONCE, the last."""
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST: Final = re.compile(rb"[0-9A-Za-z._~!$&'()*+,;=%:\[\]-]*")
_ABSOLUTE: Final = re.compile(rb"https?://[^/?#@]+(?=[/?]|\Z)", re.IGNORECASE)
_PLAIN: Final = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~!$&'()*+,=:@-]+)+|/")
"""A path that is spelled in one way only: segments that are neither empty nor dots, no encoding."""
_RESHAPED: Final = re.compile(rb"//|/\.{1,2}(?:/|\Z)|[\\;]|(?<=.)/\Z")
"""Parts of a path that proxies and frameworks remove, each in its own way."""
_NEEDLESS: Final = re.compile(
    rb"%(?:2[DEFdef]|3[0-9Bb]|4[1-9A-Fa-f]|5[0-9AaCcFf]|6[1-9A-Fa-f]|7[0-9AaEeFf]|[01])"
)
"""The encoding of an unreserved character, of ``/``, ``\\`` and ``;``, or of a control character."""
_OF_NAME: Final = re.compile(rb"(/v1/orgs/[a-z0-9-]+/subjects/)[^/]+")
"""The only path that ends in any name; its route refuses names that have two spellings."""
_MALFORMED_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UTF_8: Final = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii"})
_SHOWN_CHARS: Final = 64
OTHER_SPELLING: Final = (
    "there is no such path in this spelling: write it without empty, dot or last empty segments, "
    "without ; and backslash, and percent-encode no letter, digit, hyphen, dot, underscore, tilde "
    "or slash"
)
PARAMETERS_MAX: Final = 256
"""Parameters of a query; no route has more than a few."""


class RequestFlaw(NamedTuple):
    """The reason why a request is refused."""

    kind: ProblemType
    detail: str


def target_of(method: bytes, target: bytes) -> bytes:
    """Return the request target in origin form (RFC 9112, section 3.2), or unchanged if it has none.

    A client of a proxy sends the absolute form, whose host is ignored here. ``OPTIONS *`` gets a
    separate path.
    """
    if method == b"OPTIONS" and target == b"*":
        return WHOLE_SERVER.encode()
    found = _ABSOLUTE.match(target)
    if found is None:
        return target
    rest = target[found.end() :]
    return rest if rest[:1] == b"/" else b"/" + rest


def flaw_of(
    method: str, version: str, target: bytes, headers: Headers, by_name: Mapping[bytes, bytes]
) -> RequestFlaw | None:
    """Return what is wrong with the head of a request, or None; ``by_name``: the last of each name."""
    flaw = None
    if len(by_name) != len(headers):
        flaw = _repeated(headers)
    if version != "1.1" or not _is_host(by_name.get(b"host")):
        flaw = flaw or _of_version(version, by_name)
    if not SPECIAL.isdisjoint(by_name):
        flaw = flaw or _of_special(method, version, by_name)
    if _other_charset(by_name.get(b"content-type", b"")) and method not in READS:
        flaw = flaw or RequestFlaw(
            UNSUPPORTED_TYPE, "the Content-Type names another charset than UTF-8; send UTF-8"
        )
    if b"x-api-key" in by_name and b"authorization" in by_name:
        flaw = flaw or _of_keys(by_name)
    if b"?" in target or _PLAIN.fullmatch(target) is None:
        flaw = flaw or _of_target(target)
    return flaw


@lru_cache(maxsize=128)
def _is_host(value: bytes | None) -> bool:
    return value is not None and _HOST.fullmatch(value) is not None


@lru_cache(maxsize=128)
def _other_charset(content_type: bytes) -> bool:
    """Return whether a Content-Type names a charset in which the same bytes are another text."""
    if b";" not in content_type:
        return False
    parameters = (part.partition(b"=") for part in content_type.lower().split(b";")[1:])
    return any(
        name.strip() == b"charset" and value.strip(b' \t"') not in _UTF_8
        for name, _, value in parameters
    )


def _of_version(version: str, headers: Mapping[bytes, bytes]) -> RequestFlaw | None:
    if version not in {"1.0", "1.1"}:
        return RequestFlaw(VERSION_NOT_SUPPORTED, "send the request as HTTP/1.1")
    host = headers.get(b"host")
    if host is None:
        needed = version == "1.1"
        return _invalid("an HTTP/1.1 request needs a Host header; add it") if needed else None
    if not _is_host(host):
        return _invalid("the Host header is not a host name or address with an optional port")
    return None


def _invalid(detail: str) -> RequestFlaw:
    return RequestFlaw(INVALID_REQUEST, detail)


def _repeated(headers: Headers) -> RequestFlaw | None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in ONCE:
            return _invalid(f"the header {name.decode()} is sent twice; send it once")
        seen.add(name)
    return None


def _of_special(method: str, version: str, headers: Mapping[bytes, bytes]) -> RequestFlaw | None:
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if version == "1.0":
            return _invalid("HTTP/1.0 has no Transfer-Encoding; send a Content-Length")
        if coding.strip().lower() != b"chunked":
            return RequestFlaw(
                NOT_IMPLEMENTED,
                f"the transfer coding {_shown(coding)} is not supported; send chunked alone, or "
                "a Content-Length",
            )
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding not in {b"", b"identity"} and method not in READS:
        return RequestFlaw(
            UNSUPPORTED_TYPE,
            f"encoded bodies are not supported, and this one is {_shown(encoding)}-encoded; send "
            "it without a Content-Encoding",
        )
    expected = headers.get(b"expect", b"").strip().lower()
    if expected not in {b"", b"100-continue"}:
        return RequestFlaw(
            EXPECTATION_FAILED,
            f"Expect: {_shown(expected)} is not supported; only 100-continue is",
        )
    return None


def _of_keys(headers: Mapping[bytes, bytes]) -> RequestFlaw | None:
    """Refuse two different keys; an Authorization header of another scheme is a proxy's."""
    bearer = token_of({b"authorization": headers[b"authorization"]})
    if bearer is None or bearer == headers[b"x-api-key"].strip().decode("latin-1"):
        return None
    return _invalid("Authorization and x-api-key hold two different keys; send one of them")


def _of_target(target: bytes) -> RequestFlaw | None:
    path, _, query = target.partition(b"?")
    if target[:1] != b"/" or b"#" in target:
        return _invalid("the request target is a path and a query, without host or fragment")
    if _MALFORMED_PERCENT.search(path):
        return _invalid("the path has a % that is not followed by two hex digits")
    if _PLAIN.fullmatch(path) is None and not _is_spelled_once(path):
        return RequestFlaw(NOT_FOUND, OTHER_SPELLING)
    return _of_query(query) if query else None


def _of_query(query: bytes) -> RequestFlaw | None:
    if query.count(b"&") >= PARAMETERS_MAX:
        return _invalid(f"the query has more than {PARAMETERS_MAX} parameters")
    seen: set[str] = set()
    for part in query.split(b"&"):
        name, _, value = (_text(piece) for piece in part.replace(b"+", b" ").partition(b"="))
        if name is None:
            return _invalid("the query has a name that is not percent-encoded UTF-8")
        if value is None or has_control(value) or has_control(name):
            flaw = "is not percent-encoded UTF-8" if value is None else "has a control character"
            return _invalid(f"the query parameter {_quoted(name)} {flaw}")
        if name in seen:
            return _invalid(f"the query parameter {_quoted(name)} is given twice; give it once")
        if part:
            seen.add(name)
    return None


def _is_spelled_once(path: bytes) -> bool:
    """Return whether no other path is the same after a proxy or a framework has normalised it.

    Percent-encoding is left to names that need it, in UTF-8.
    """
    if _RESHAPED.search(path):
        return False
    if _OF_NAME.fullmatch(path):
        return True
    return _NEEDLESS.search(path) is None and _text(path) is not None


def _text(encoded: bytes) -> str | None:
    """Decode percent-encoded UTF-8; return None for anything else."""
    if _MALFORMED_PERCENT.search(encoded):
        return None
    try:
        return unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        return None


def _shown(value: bytes) -> str:
    return value[:_SHOWN_CHARS].decode("ascii", "replace")


def _quoted(name: str) -> str:
    shown = "".join(char if char.isprintable() else "\ufffd" for char in name[:_SHOWN_CHARS])
    return f'"{shown}"'
