"""The command `quire`: runs the server, and speaks to one.

Exit codes: 0 done or verified, 1 done and the finding is bad (refuted, a line that is no event),
2 not done, 3 incomplete, 130 after ^C.
"""

import click

from ledger import __version__
from server.cli.base.lazy import Lazy
from server.cli.base.root import Root

__all__ = ["main"]

_EPILOG = """\b
Commands that speak to a server read
  QUIRE_URL      its address (http://127.0.0.1:8080)
  QUIRE_API_KEY  the API key; without it, and for a server on this machine,
                 platform.key in the data directory (.quire) is used
"""

_COMMANDS = {
    "serve": Lazy("server.cli.operations.serve:serve", "Run the server."),
    "migrate": Lazy(
        "server.cli.operations.migrate:migrate", "Bring the database to this version's schema."
    ),
    "settings": Lazy("server.cli.operations.settings:settings", "List the server's settings."),
    "orgs": Lazy("server.cli.trails.orgs:orgs", "Create and look after orgs."),
    "keys": Lazy("server.cli.keys.group:keys", "API keys of an org, and the signing keys."),
    "append": Lazy(
        "server.cli.trails.append:append", "Append events from a file or standard input."
    ),
    "entries": Lazy("server.cli.trails.entries:entries", "Read a trail's entries."),
    "verify": Lazy("server.cli.trails.verify:verify", "Verify a trail and list every fault."),
    "verify-entry": Lazy("server.cli.trails.verify:verify_entry", "Verify one entry."),
    "log": Lazy("server.cli.keys.log:log", "The signed logs: their verifier keys."),
    "bundle": Lazy(
        "server.cli.trails.bundle:bundle", "Write evidence that proves itself to a file."
    ),
    "archive": Lazy("server.cli.archive.group:archive", "The archive of a trail."),
    "retention": Lazy(
        "server.cli.operations.retention:retention", "Months that leave the database."
    ),
    "import": Lazy("server.cli.imports.group:imports", "Bring in trails of other systems."),
    "subjects": Lazy("server.cli.trails.subjects:subjects", "Erase a person's data."),
    "witness": Lazy(
        "server.cli.operations.witness:witness", "Watch other people's logs, and cosign them."
    ),
    "bench": Lazy("server.cli.operations.bench:bench", "Measure speed (in a checkout)."),
}


@click.group(
    cls=Root,
    lazy=_COMMANDS,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Quire, an append-only ledger that nobody can alter unnoticed."""
