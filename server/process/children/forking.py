"""Starts the processes beside the workers from a fork server, which imports their modules once.

The fork server is a clean interpreter of its own, without threads, keys and logins: each process is
forked from it in milliseconds and shares its memory, where an interpreter for each would import the
same modules again. The context of a process goes to it through a pipe and stands in no environment.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from server.process.children.context import ProcessContext
from server.settings import LOGIN_URLS
from server.settings.environment import variable

MODULES: Final = tuple(
    f"server.process.{name}" for name in ("signer", "archiver", "indexer", "retention")
)
"""The modules of the processes that are started so; each has its ``main``."""
_forks = multiprocessing.get_context("forkserver")


def start(name: str, module: str, context: ProcessContext) -> BaseProcess:
    """Start ``main`` of the module in a process that is called quire-NAME.

    Raises OSError or EOFError if it can't be started now.
    """
    process = _forks.Process(target=_run, args=(name, module, context.encoded()), daemon=True)
    _forks.set_forkserver_preload([*MODULES, "server.cli.main"])
    process.start()
    return process


def _run(name: str, module: str, encoded: str) -> None:
    # A group of its own: the Ctrl-C of a terminal goes to the supervisor, which stops it.
    os.setsid()
    with suppress(OSError):  # there is no such file outside of Linux
        Path("/proc/self/comm").write_text(f"quire-{name}")
    importlib.import_module(module).main(ProcessContext.decoded(encoded))


def set_environment(data_dir: Path) -> None:
    """Set what all processes of this server inherit; before the first one is started.

    No login of the database, and the directory by which a process is found. They import from the same
    places as this one: without PYTHONSAFEPATH also from the directory in which the server was started.
    """
    for name in LOGIN_URLS:
        os.environ.pop(variable(name), None)
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    os.environ[variable("data_dir")] = str(data_dir)
