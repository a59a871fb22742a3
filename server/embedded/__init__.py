"""The embedded PostgreSQL: the real engine, started by `quire serve` where no database is named.

How it is kept safe without passwords: there is no TCP, and the socket lies in a directory that
only the database's own system user (and root) can enter. Whoever can reach the socket could also
read the files, so asking that user for a password (`pg_hba.conf` says `local all all trust`)
would protect nothing.
"""

from server.embedded.cluster import OWNER_ROLE, SERVER_ROLE, EmbeddedPostgres
from server.embedded.errors import EmbeddedPostgresError
from server.embedded.files import SUPERUSER
from server.settings.data_dir import DataDirBusy, DataDirLock

__all__ = [
    "OWNER_ROLE",
    "SERVER_ROLE",
    "SUPERUSER",
    "DataDirBusy",
    "DataDirLock",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
]
