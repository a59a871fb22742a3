"""Names the extra to install where a Python package is missing.

`pip install quire-ledger` installs the formats, the client and `quire-verify`. The other packages
that `quire` needs are in extras, so each import of them can fail.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

DISTRIBUTION: Final = "quire-ledger"
DEBUG_VARIABLE: Final = "QUIRE_DEBUG"
"""With it, an unexpected error is reported with its traceback."""
_OURS: Final = frozenset({"ledger", "server"})
_DEFAULT_EXTRA: Final = "server"
_REQUIREMENT: Final = re.compile(r"(?P<name>[\w.-]+).*;.*\bextra == ['\"](?P<extra>[\w.-]+)['\"]")
"""A requirement in the package's metadata that belongs to an extra."""


def missing_package(error: ModuleNotFoundError) -> str | None:
    """Return which package is missing and how to install it; None for a module of Quire."""
    package = (error.name or "").partition(".")[0]
    if not package or package in _OURS:
        return None
    extra = _extra_of(package)
    return (
        f"quire needs the Python package {package}, which the extra [{extra}] brings. "
        f"Run: pip install '{DISTRIBUTION}[{extra}]'"
    )


def _extra_of(package: str) -> str:
    """Return the extra that requires a package; `server` for a dependency of its packages."""
    from importlib.metadata import PackageNotFoundError, requires  # noqa: PLC0415 - slow to load

    with suppress(PackageNotFoundError):
        for line in requires(DISTRIBUTION) or ():
            requirement = _REQUIREMENT.match(line)
            if requirement is not None and _normal(requirement["name"]) == _normal(package):
                return requirement["extra"]
    return _DEFAULT_EXTRA


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
