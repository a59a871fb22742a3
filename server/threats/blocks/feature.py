"""Blocks of addresses."""

from typing import Final

from server.feature import Command, Feature
from server.threats.blocks.entry_kinds import ENTRY_KINDS
from server.threats.blocks.settings import BlockSettings

FEATURE: Final = Feature(
    name="blocks",
    routes=("server.threats.blocks.routes:router",),
    tags={"Blocks": "Addresses whose requests are refused for some time."},
    administrative=True,
    errors=("server.threats.blocks",),
    settings=(BlockSettings,),
    commands={
        "security": Command(
            "server.cli.operations.security:security", "Block addresses, on the server's machine."
        )
    },
    tasks=(
        "server.threats.blocks.tasks:block_addresses",
        "server.threats.blocks.tasks:store_addresses",
        "server.threats.blocks.tasks:compare_block_rows",
        "server.threats.blocks.tasks:delete_addresses",
    ),
    entry_kinds=ENTRY_KINDS,
)
