"""The embedded PostgreSQL: the real engine, started by `quire serve` if no database is named.

It is safe without passwords: there is no TCP, and the socket is in a directory that only the
database's own system user (and root) can enter. A user that can reach the socket can also read
the files, so a password (`pg_hba.conf` says `local all all trust`) would protect nothing.
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
