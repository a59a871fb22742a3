"""Names what to install where a package of an extra is missing.

`pip install quire-ledger` brings the formats, the client and `quire-verify`. What `quire` needs
beside them is in extras, so any import of it can fail.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

DISTRIBUTION: Final = "quire-ledger"
_OURS: Final = frozenset({"ledger", "server"})
_DEFAULT_EXTRA: Final = "server"
_REQUIREMENT: Final = re.compile(r"(?P<name>[\w.-]+).*;.*\bextra == ['\"](?P<extra>[\w.-]+)['\"]")
"""A line of the metadata that an extra asks for."""


def missing_package(error: ModuleNotFoundError) -> str | None:
    """Says which package is missing and how to install it; None where it is a module of Quire."""
    package = (error.name or "").partition(".")[0]
    if not package or package in _OURS:
        return None
    extra = _extra_of(package)
    return (
        f"quire needs the Python package {package}, which the extra [{extra}] brings. "
        f"Run: pip install '{DISTRIBUTION}[{extra}]'"
    )


def _extra_of(package: str) -> str:
    """The extra that asks for a package; `server` for what its packages need themselves."""
    from importlib.metadata import PackageNotFoundError, requires  # noqa: PLC0415 - slow to load

    with suppress(PackageNotFoundError):
        for line in requires(DISTRIBUTION) or ():
            asked = _REQUIREMENT.match(line)
            if asked is not None and _normal(asked["name"]) == _normal(package):
                return asked["extra"]
    return _DEFAULT_EXTRA


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
