"""Trails: append, read, verify, prove, bundle, archive, erase."""

from typing import Final

from server.feature import Command, DataFile, Feature
from server.trails.own.entry_kinds import ENTRY_KINDS

FEATURE: Final = Feature(
    name="trails",
    routes=(
        "server.http.routes.entries:router",
        "server.http.routes.erasures:router",
        "server.http.routes.verifications:router",
        "server.http.routes.log:router",
        "server.http.routes.checkpoints:router",
        "server.http.routes.proofs:router",
        "server.http.routes.bundles:router",
        "server.http.routes.archives:router",
    ),
    tags={
        "Entries": "Appending to a trail, reading it, erasing a person from it.",
        "Verification": "Whether a trail, or one entry, is what was acknowledged.",
        "Logs": "The trail as a transparency log: tiles, checkpoints, anchors, proofs.",
        "Evidence": "Entries that leave as a file which proves itself offline.",
        "Archive": "The trail's copy in a folder or in locked object storage.",
    },
    commands={
        "append": Command(
            "server.cli.trails.append:append", "Append events from a file or standard input."
        ),
        "entries": Command("server.cli.trails.entries:entries", "Read a trail's entries."),
        "verify": Command(
            "server.cli.trails.verify:verify", "Verify a trail and list every fault."
        ),
        "verify-entry": Command("server.cli.trails.verify:verify_entry", "Verify one entry."),
        "log": Command("server.cli.keys.log:log", "The signed logs: their verifier keys."),
        "bundle": Command(
            "server.cli.trails.bundle:bundle", "Export entries and their proofs as a file."
        ),
        "archive": Command("server.cli.archive.group:archive", "The archive of a trail."),
        "retention": Command(
            "server.cli.operations.retention:retention", "Drop archived months from the database."
        ),
        "search": Command(
            "server.cli.operations.search:search", "Check and rebuild the search index."
        ),
        "import": Command("server.cli.imports.group:imports", "Import trails of other systems."),
        "subjects": Command("server.cli.trails.subjects:subjects", "Erase a person's data."),
    },
    tasks=(
        "server.trails.tasks:watch_clock",
        "server.trails.tasks:keep_up",
        "server.trails.tasks:follow_notifications",
        "server.trails.tasks:follow_register",
        "server.trails.tasks:end_revoked",
        "server.trails.tasks:note_key_uses",
        "server.trails.tasks:tell_rates",
        "server.trails.tasks:report_key_endings",
        "server.trails.tasks:watch_signed_trees",
        "server.trails.tasks:watch_lateness",
        "server.trails.tasks:sync_heads",
        "server.trails.own.tasks:store_acts",
        "server.trails.own.tasks:tell_acts",
        "server.trails.own.tasks:seal_events",
    ),
    entry_kinds=ENTRY_KINDS,
    data_files=(
        DataFile(
            "clock.json",
            "The last known time, so that a start with a wrong clock is noticed. It may be deleted.",
        ),
        DataFile(
            "acknowledged.heads",
            "The newest head of each org that this machine acknowledged, kept outside the database: "
            "128 bytes an org.",
        ),
        DataFile("archive/", "The archive, unless `QUIRE_ARCHIVE_URL` names another place."),
    ),
)
