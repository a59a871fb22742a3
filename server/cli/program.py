"""The program `quire`: starts the command line, or says why it can't be loaded.

Nothing here may import a package of an extra.
"""

from __future__ import annotations

import os
import sys
import traceback

from server.cli.extras import DEBUG_VARIABLE, missing_package

NOT_DONE = 2


def main() -> int:
    """Run the command line; return only if it can't be loaded.

    Python's own exit code for an exception, 1, would mean that a trail has a fault.
    """
    try:
        from server.cli.main import main as command  # noqa: PLC0415 - needs the extra `server`

        command()
    except Exception as error:  # noqa: BLE001 - a damaged package may raise anything
        sys.stderr.write(f"Error: {_reason(error)}\n")
    return NOT_DONE


def _reason(error: Exception) -> str:
    missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
    if missing is not None:
        return missing
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    why = " ".join(str(error).split()) or type(error).__name__
    return (
        f"quire can't be loaded: {why}. Its installation may be damaged: install it again, or see "
        f"the traceback, which {DEBUG_VARIABLE}=1 prints."
    )
