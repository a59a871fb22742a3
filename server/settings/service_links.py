"""Recognises the variables that Kubernetes and Docker set in a container for other services.

The names that they set for a service `quire`, or for one whose name begins with `quire-`, begin
like this server's settings: `QUIRE_SERVICE_HOST`, `QUIRE_PORT=tcp://10.43.0.5:8080`,
`QUIRE_DB_PORT_5432_TCP`. They differ from settings in their names and in the form of their values.

Sources: Kubernetes, "Discovering services"; Docker, "Legacy container links".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final

_PREFIX = r"(?P<service>QUIRE(_[A-Z0-9_]+?)?)"
_PORT_MAX: Final = 65_535
_URL: Final = re.compile(r"(tcp|udp|sctp)://(\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):([0-9]{1,5})")
_CONTAINER: Final = re.compile(r"/[^/\s]+/[^/\s]+")
_ENVIRONMENT: Final = re.compile(rf"{_PREFIX}_ENV_.+")


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_port(value: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,5}", value)) and 0 < int(value) <= _PORT_MAX


def _is_url(value: str) -> bool:
    found = _URL.fullmatch(value)
    return found is not None and _is_port(found[3])


def _is_protocol(value: str) -> bool:
    return value in {"tcp", "udp", "sctp"}


def _is_container(value: str) -> bool:
    return _CONTAINER.fullmatch(value) is not None


_NUMBERED = r"_PORT_[0-9]{1,5}_(TCP|UDP|SCTP)"
_FORMS: Final[tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...]] = tuple(
    (re.compile(_PREFIX + suffix), form)
    for suffix, form in (
        (r"_SERVICE_HOST", _is_address),
        (r"_SERVICE_PORT(_[A-Z0-9_]+)?", _is_port),
        (r"_PORT", _is_url),
        (rf"{_NUMBERED}(_START|_END)?", _is_url),
        (rf"{_NUMBERED}_PROTO", _is_protocol),
        (rf"{_NUMBERED}_PORT(_START|_END)?", _is_port),
        (rf"{_NUMBERED}_ADDR", _is_address),
        (r"_NAME", _is_container),
    )
)


def service_links(environ: Mapping[str, str]) -> set[str]:
    """Return the names in an environment that are service links, judged by name and value.

    A variable that Docker copies from another container (`QUIRE_DB_ENV_…`) may have any value, so
    it counts only if the environment also has a link of the same service.
    """
    links, services = set(), set()
    for name, value in environ.items():
        for pattern, form in _FORMS:
            found = pattern.fullmatch(name)
            if found is not None and form(value):
                links.add(name)
                services.add(found["service"])
    for name in environ:
        copied = _ENVIRONMENT.fullmatch(name)
        if copied is not None and copied["service"] in services:
            links.add(name)
    return links


def has_the_name_of_a_link(name: str) -> bool:
    """Return whether a service link can have this name, whatever its value is."""
    return any(pattern.fullmatch(name) for pattern, _ in _FORMS)
