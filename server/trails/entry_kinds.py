"""The entries that the server itself writes into trails."""

from typing import Final

from ledger.event import LOSS_ACCEPTED
from server.feature import EntryKind

THAWED: Final = "quire.org_thawed"
ERASED: Final = "quire.subject_erased"
DISCLOSED: Final = "quire.bundle_disclosed"
ADDED: Final = "quire.added"

ENTRY_KINDS: Final = (
    EntryKind(
        THAWED,
        "A frozen org accepts entries again: who thawed it, and why; also in the trail `system`.",
    ),
    EntryKind(
        LOSS_ACCEPTED,
        "Acknowledged entries were lost, and an operator let the trail go on without them: which, "
        "and why.",
    ),
    EntryKind(
        ERASED,
        "A person was erased: the key of the subject was destroyed; also in the trail `system`.",
    ),
    EntryKind(DISCLOSED, "A bundle opened payloads, actors or subjects: who, and which entries."),
    EntryKind(ADDED, "Raw bytes that a load test added to the log."),
    EntryKind(
        "quire.month_leaving", "A month of the trail is about to be dropped from the database."
    ),
    EntryKind(
        "quire.partition_dropped", "A month was dropped from the database: where it is archived."
    ),
)
