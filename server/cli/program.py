"""The program `quire`: starts the command line, or names the extra that is not installed.

Nothing here may import a package of an extra.
"""

from __future__ import annotations

import sys

from server.cli.extras import missing_package

NOT_DONE = 2


def main() -> int:
    """Run the command line; return only if one of its packages is not installed."""
    try:
        from server.cli.main import main as command  # noqa: PLC0415 - needs the extra `server`

        command()
    except ModuleNotFoundError as error:
        message = missing_package(error)
        if message is None:
            raise
        sys.stderr.write(f"Error: {message}\n")
    return NOT_DONE
