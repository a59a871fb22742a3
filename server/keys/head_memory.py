"""Opens the file of the heads that this machine acknowledged; it belongs to one database."""

from __future__ import annotations

import structlog

from ledger import sealing
from ledger.core.sequencer import HEADS_FILE, AcknowledgedHeads
from server.settings import Settings
from server.settings.data_dir import make_data_dir

log = structlog.get_logger("quire")


def open_heads(settings: Settings, master_key: bytes, *, has_orgs: bool) -> AcknowledgedHeads:
    """Open the file, or make it; log that it was missing if the database has orgs already.

    The master key names the database: a restore from an archive keeps both. Raises
    HeadMemoryUnavailable.
    """
    path = make_data_dir(settings.data_dir) / HEADS_FILE
    heads = AcknowledgedHeads(path, sealing.derive(master_key, "acknowledged-heads"))
    if heads.is_new and has_orgs:
        log.warning(
            "the file of acknowledged heads was missing and begins anew: another machine served so "
            "far, or the file was lost. A rollback of the database to before now is not detected by it",
            path=str(path),
        )
    return heads
