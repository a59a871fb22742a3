"""The command `quire`: runs the server, and calls its API.

Exit codes: 0 done or verified, 1 done with a bad finding (refuted, a line that is not an event),
2 not done, 3 incomplete, 130 after ^C.
"""

from collections.abc import Iterable

import click

from ledger import __version__
from server.app.features import FEATURES
from server.cli.base.root import RootGroup
from server.feature import Command, Feature

__all__ = ["commands", "main"]

_EPILOG = """\b
Commands that call a server read
  QUIRE_URL      its address (http://127.0.0.1:8080)
  QUIRE_API_KEY  the API key; without it, and for a server on this machine,
                 platform.key in the data directory (.quire) is used
"""


def commands(features: Iterable[Feature]) -> dict[str, Command]:
    """Return the commands of all features, in the order of the help."""
    return {name: command for one in features for name, command in one.commands.items()}


@click.group(
    cls=RootGroup,
    lazy=commands(FEATURES),
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Quire, an append-only ledger that makes every alteration detectable."""
