"""`quire archive`."""

from server.cli.base.lazy import LazyGroup
from server.feature import Command

archive = LazyGroup(
    "archive",
    lazy={
        "run": Command("server.cli.archive.archiving:run", "Archive a trail now."),
        "status": Command(
            "server.cli.archive.archiving:status", "Show how far a trail is archived."
        ),
        "verify": Command("server.cli.archive.verify:verify", "Verify an archive."),
        "restore": Command(
            "server.cli.archive.restore:restore", "Restore orgs from their archive."
        ),
    },
    help="""The archive of a trail: a static log in a folder, or in locked object storage.

    A running server archives signed entries by itself, after a short delay.""",
)
