"""`quire archive`."""

from server.cli.base.lazy import Lazy, LazyGroup

archive = LazyGroup(
    "archive",
    lazy={
        "run": Lazy("server.cli.archive.archiving:run", "Archive a trail now."),
        "status": Lazy("server.cli.archive.archiving:status", "Show how far a trail is archived."),
        "verify": Lazy("server.cli.archive.verify:verify", "Verify an archive."),
        "restore": Lazy("server.cli.archive.restore:restore", "Restore orgs from their archive."),
    },
    help="""The archive of a trail: a static log in a folder, or in locked object storage.

    A running server archives by itself what was signed, a little behind.""",
)
