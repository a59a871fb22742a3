"""The commands that run, migrate and configure the server."""

from typing import Final

from server.feature import Command, Feature

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
)
