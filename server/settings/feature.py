"""The commands that run, migrate and configure the server."""

from typing import Final

from server.feature import Command, DataFile, Feature
from server.settings.data_dir import LOCK_NAME

FEATURE: Final = Feature(
    name="server",
    commands={
        "serve": Command("server.cli.operations.serve:serve", "Run the server."),
        "migrate": Command(
            "server.cli.operations.migrate:migrate",
            "Migrate the database to this version's schema.",
        ),
        "settings": Command(
            "server.cli.operations.settings:settings", "List the server's settings."
        ),
    },
    data_files=(
        DataFile("signing-keys.json", "The keys that sign entries."),
        DataFile("master.key", "The key that wraps every sealing key and checks API keys."),
        DataFile(
            "log-keys.json", "The keys that sign checkpoints and anchors, and their public history."
        ),
        DataFile(
            "signed.sqlite",
            "The signer's memory: what was signed, kept outside the database. While the signer runs, "
            "`signed.sqlite-wal` and `signed.sqlite-shm` lie beside it and belong to it.",
        ),
        DataFile("postgres/", "The embedded database, or a link to it."),
        DataFile(LOCK_NAME, "Locked by the process that serves; a second one is refused."),
    ),
)
