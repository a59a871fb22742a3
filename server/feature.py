"""The parts that a domain adds to the server, listed in one ``FEATURE``.

The application reads its routes, the processes its tasks, the command line its commands, the
settings its sections, the documentation and the tests all of it. Modules are named, not imported,
so that the command line starts without the web framework and the database driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple


class Command(NamedTuple):
    """The location of a command (``package.module:attribute``), and its line in the help."""

    target: str
    summary: str


class EntryKind(NamedTuple):
    """The type of an entry that the server itself writes, and its meaning.

    ``payload`` names the Struct of its payload (``package.module:attribute``); ``batching`` says
    when it is written.
    """

    event_type: str
    says: str
    payload: str = ""
    batching: str = "In the transaction of the change that it tells."


class DataFile(NamedTuple):
    """A file in the data directory, or a folder whose name ends in ``/``, and its content."""

    name: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One domain of the server.

    ``routes`` name Litestar routers (``package.module:attribute``), in the order of the API's
    description; ``tags`` are the sections of the description that list them, those of an
    ``administrative`` domain after all others. ``errors`` name the packages whose error classes
    state problems. ``settings`` are sections that the domain adds to the settings, frozen
    dataclasses (:mod:`server.settings.section`). ``tasks`` name coroutine functions that a worker
    runs with its services until it ends. ``metrics`` name modules that add metrics to
    ``server.metrics.REGISTRY``.
    ``data_files`` are the files that the domain writes into the data directory.
    """

    name: str
    routes: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    administrative: bool = False
    errors: tuple[str, ...] = ()
    settings: tuple[type, ...] = ()
    commands: Mapping[str, Command] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    entry_kinds: tuple[EntryKind, ...] = ()
    data_files: tuple[DataFile, ...] = ()


def load(target: str) -> Any:
    """Import and return the object that ``package.module:attribute`` names."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def tags_of(features: Iterable[Feature]) -> dict[str, str]:
    """Return the sections of the API's description, in their order."""
    ordered = sorted(features, key=lambda feature: feature.administrative)
    return {name: text for feature in ordered for name, text in feature.tags.items()}


def added_settings(features: Iterable[Feature]) -> list[type]:
    """Return the sections that features add to the settings of Quire."""
    return [section for feature in features for section in feature.settings]
