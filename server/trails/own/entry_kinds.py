"""The entries that the server itself writes into trails."""

from typing import Final

from ledger.event import LOSS_ACCEPTED
from ledger.sealed_events import SECURITY_EVENTS
from server.feature import EntryKind
from server.trails.own.payloads import BUNDLED, OPENED, READS, REFUSED, VERIFIED
from server.trails.own.server_payloads import STARTED, STOPPED

THAWED: Final = "quire.org_thawed"
ERASED: Final = "quire.subject_erased"
DISCLOSED: Final = "quire.bundle_disclosed"
ADDED: Final = "quire.added"
_CHANGES: Final = "server.trails.own.changes:"
_PAYLOADS: Final = "server.trails.own.payloads:"
_RUNS: Final = "server.trails.own.server_payloads:"
_BEFORE: Final = "Before the act that it tells."
_HOURLY: Final = (
    "Once an hour and org, within minutes of the hour's end, whatever the number of requests and of "
    "server processes; of 500 reads or more in parts."
)
_SOON: Final = (
    "Once in `QUIRE_OWN_ENTRIES_SECONDS` (60) at most; nothing is written while nothing happens."
)

ENTRY_KINDS: Final = (
    EntryKind(
        THAWED,
        "A frozen org accepts entries again: who thawed it, and why; also in the trail `system`.",
        f"{_CHANGES}OrgThawed",
    ),
    EntryKind(
        LOSS_ACCEPTED,
        "Acknowledged entries were lost, and an operator let the trail go on without them: which, "
        "and why.",
        f"{_CHANGES}LossAccepted",
    ),
    EntryKind(
        ERASED,
        "A person was erased: the key of the subject was destroyed; also in the trail `system`.",
        f"{_CHANGES}SubjectErased",
    ),
    EntryKind(
        DISCLOSED,
        "A bundle opened payloads, actors or subjects: who, and which entries.",
        f"{_CHANGES}BundleDisclosed",
        _BEFORE,
    ),
    EntryKind(
        ADDED, "Raw bytes that a load test added to the log.", f"{_CHANGES}Added", "At each call."
    ),
    EntryKind(
        "quire.month_leaving",
        "A month of the trail is about to be dropped from the database.",
        f"{_CHANGES}MonthLeaving",
        _BEFORE,
    ),
    EntryKind(
        "quire.partition_dropped",
        "A month was dropped from the database: where it is archived.",
        f"{_CHANGES}PartitionDropped",
        _BEFORE,
    ),
    EntryKind(
        READS,
        "Who read how much in an hour: by key and route, with the bounds of the seqs; after hours "
        "without reads, how many.",
        f"{_PAYLOADS}ReadSummary",
        _HOURLY,
    ),
    EntryKind(
        REFUSED,
        "Requests that were refused for their API key in an hour, by key or network; in the trail "
        "`system` where the key is unknown.",
        f"{_PAYLOADS}AuthRefused",
        _HOURLY,
    ),
    EntryKind(
        OPENED,
        "A key opened sealed payloads: which entries. Entries of the server itself are not told.",
        f"{_PAYLOADS}PayloadOpened",
        f"By key. {_SOON}",
    ),
    EntryKind(
        VERIFIED,
        "Verifications ended: the range, the answer of each check, the number of faults.",
        f"{_PAYLOADS}VerificationDone",
        _SOON,
    ),
    EntryKind(
        BUNDLED,
        "Evidence bundles were made: who, which entries, and the fields that they open.",
        f"{_PAYLOADS}BundleCreated",
        _SOON,
    ),
    EntryKind(
        STARTED,
        "A server started: its settings, and what changed since its last start; in the trail "
        "`system`.",
        f"{_RUNS}ServerStarted",
        f"By server. {_SOON} Of 100 starts or more in parts.",
    ),
    EntryKind(
        STOPPED,
        "Servers stopped in order: when, and why; in the trail `system`.",
        f"{_RUNS}ServerStopped",
        "By the next server that runs for `QUIRE_OWN_ENTRIES_SECONDS` (60). Of 500 stops or more in "
        "parts.",
    ),
    EntryKind(
        SECURITY_EVENTS,
        "Security events of the org, with a digest of each row; in the trail `system` those that "
        "concern all orgs.",
        "ledger.sealed_events:SecurityEventsSealed",
        f"{_SOON} Of more than 500 events in several entries.",
    ),
)
