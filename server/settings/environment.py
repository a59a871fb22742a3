"""Reads the server's settings from the environment.

An unknown name is refused, with the most similar known name. Variables that a container's
environment has for other services are ignored.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from typing import Any, Final

from server.settings.section import Setting
from server.settings.service_links import has_the_name_of_a_link, service_links
from server.settings.values import BadValue, read_value

_log = logging.getLogger(__name__)

PREFIX: Final = "QUIRE_"
KEY_ALIASES: Final = ("AUDIT_SECRET_KEY", "QWED_AUDIT_SECRET_KEY")
CLIENT_NAMES: Final = frozenset(
    {"QUIRE_URL", "QUIRE_API_KEY", "QUIRE_DEBUG", "QUIRE_INSECURE_HTTP"}
)
"""Variables that only commands read."""


def read(
    environ: Mapping[str, str], overrides: Mapping[str, object], known: Mapping[str, Setting]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values that are set, by field name, and all problems found."""
    environ = _without_links(environ, known)
    problems = _unknown_names(environ, known)
    given = _from_environment(environ, known)
    given |= {name: value for name, value in overrides.items() if value is not None}
    values = {name: _convert(known[name], value, problems) for name, value in given.items()}
    return values, problems


def variable(field_name: str) -> str:
    """Return the name of a setting's environment variable."""
    return PREFIX + field_name.upper()


def _unknown_names(environ: Mapping[str, str], known: Mapping[str, Setting]) -> list[str]:
    names = [*map(variable, known), *sorted(CLIENT_NAMES)]
    problems = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            advice = f" Did you mean {near[0]}?" if near else ""
            if has_the_name_of_a_link(name):
                advice = (
                    " If Kubernetes put it there for a service of that name, set "
                    "enableServiceLinks: false on the pod, or rename the service."
                )
            problems.append(f"{name} is not a setting of this version.{advice}")
    return problems


def _from_environment(
    environ: Mapping[str, str], known: Mapping[str, Setting]
) -> dict[str, object]:
    given: dict[str, object] = {
        name: environ[variable(name)] for name in known if environ.get(variable(name))
    }
    for alias in KEY_ALIASES:
        if not environ.get(alias):
            continue
        if "audit_secret_key" in given:
            _log.warning("%s is set but not used: the same key is set by another name", alias)
            continue
        _log.warning("%s is read as QUIRE_AUDIT_SECRET_KEY: please use that name", alias)
        given["audit_secret_key"] = environ[alias]
    return given


def _convert(setting: Setting, value: object, problems: list[str]) -> Any:
    """Return the checked value of one field; add a problem to the list instead of raising it."""
    try:
        return read_value(setting, value)
    except BadValue as error:
        problems.append(f"{variable(setting.name)} ({setting.description}): {error}.")
        return None


def _without_links(environ: Mapping[str, str], known: Mapping[str, Setting]) -> dict[str, str]:
    """Return the environment without the variables that Kubernetes or Docker set for services.

    A setting that shares its name with such a variable (QUIRE_PORT) is kept if its value is valid.
    """
    links = service_links(environ)
    for name, setting in known.items():
        if variable(name) in links:
            try:
                read_value(setting, environ[variable(name)])
            except BadValue:
                _log.warning(
                    "%s is a service link of the container's environment and is not used as the "
                    "setting; enableServiceLinks: false removes it from a pod",
                    variable(name),
                )
            else:
                links.discard(variable(name))
    return {name: value for name, value in environ.items() if name not in links}
