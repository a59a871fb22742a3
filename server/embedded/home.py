"""Finds the directory of a cluster, its home, and the account that owns it.

The home is normally `<data-dir>/postgres`. One case needs another place: root runs the server,
PostgreSQL runs as another user, and that user cannot enter the data directory (a checkout below
/root, say). Permissions of existing folders are never widened, so the cluster then goes to
`/var/lib/quire/<random id>`, and `<data-dir>/postgres` is a symbolic link to it. The link is the
record: the same data directory always finds the same cluster, moving the directory keeps it, and a
new directory at an old path starts with a new cluster. `/var/lib/quire/<id>.data-dir` names the
data directory, so that a copy of it is not mistaken for the original.
"""

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from server.embedded.account import ClusterAccount
from server.embedded.errors import EmbeddedPostgresError

SYSTEM_STATE = Path("/var/lib/quire")
HOME_NAME = "postgres"


@dataclass(frozen=True, slots=True)
class ClusterHome:
    """A directory that `account` owns with mode 0700; it holds all files of the cluster."""

    path: Path
    account: ClusterAccount


def claim_home(data_dir: Path) -> ClusterHome:
    """Find the cluster's home, or make it. `data_dir` is absolute and exists.

    Raises EmbeddedPostgresError if the home belongs to another user or cannot be reached.
    """
    place = data_dir / HOME_NAME
    if place.is_symlink():
        path = _follow(place, data_dir)
    elif place.is_dir():
        path = place
    else:
        return _make_home(place, data_dir)
    account = _account_of(path)
    _require_reach(path, account)
    return ClusterHome(path, account)


def make_system_state(account: ClusterAccount) -> Path:
    """Make the directory for the files that root keeps outside the data directory; return it.

    Raises EmbeddedPostgresError if the account cannot enter it, before anything is written there.
    """
    try:
        SYSTEM_STATE.mkdir(mode=0o711, parents=True)
        SYSTEM_STATE.chmod(0o711)  # regardless of the umask
    except FileExistsError:
        pass
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{SYSTEM_STATE} cannot be created: {error.strerror}."
        ) from error
    _require_reach(SYSTEM_STATE, account)
    return SYSTEM_STATE


def _account_of(path: Path) -> ClusterAccount:
    owner = path.stat().st_uid
    if os.geteuid() == 0:
        # A home that root owns was left by a crash between mkdir and chown.
        return (
            _hand_over(path, ClusterAccount.system())
            if owner == 0
            else ClusterAccount.owner_of(path)
        )
    if owner != os.geteuid():
        raise EmbeddedPostgresError(
            f"The database in {path} belongs to user id {owner}, and this process runs as "
            f"{os.geteuid()}. Start the server as the user that created the data directory."
        )
    return ClusterAccount.current()


def _make_home(place: Path, data_dir: Path) -> ClusterHome:
    if os.geteuid() != 0:
        _make_private(place)
        return ClusterHome(place, ClusterAccount.current())
    account = ClusterAccount.system()
    if account.can_enter(data_dir):
        _make_private(place)
        return ClusterHome(place, _hand_over(place, account))
    return ClusterHome(_make_outside(place, data_dir, account), account)


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    folder.chmod(0o700)  # regardless of the umask


def _make_outside(place: Path, data_dir: Path, account: ClusterAccount) -> Path:
    """Make a home in the system's directory and the link to it, or neither; return the home."""
    home = make_system_state(account) / secrets.token_hex(8)
    try:
        _write_record(_owner_record(home), data_dir)
        _make_private(home)
        _hand_over(home, account)
        # A crash here leaves an empty directory that nothing refers to.
        place.symlink_to(home)
    except BaseException:
        _owner_record(home).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            home.rmdir()
        raise
    return home


def _write_record(record: Path, data_dir: Path) -> None:
    descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(os.fsencode(data_dir) + b"\n")


def _hand_over(home: Path, account: ClusterAccount) -> ClusterAccount:
    os.chown(home, account.uid, account.gid)
    return account


def _owner_record(home: Path) -> Path:
    return home.with_name(home.name + ".data-dir")


def _follow(place: Path, data_dir: Path) -> Path:
    home = place.resolve()
    if not home.is_dir():
        raise EmbeddedPostgresError(
            f"The database of {data_dir} was in {home}, which does not exist. Restore it from a backup, "
            f"or remove {place} to begin with an empty database."
        )
    record = _owner_record(home)
    if record.exists():
        _check_owner(record, home, data_dir)
    return home


def _check_owner(record: Path, home: Path, data_dir: Path) -> None:
    recorded = Path(os.fsdecode(record.read_bytes().strip(b"\n")))
    if recorded == data_dir:
        return
    if (recorded / HOME_NAME).resolve() == home:
        raise EmbeddedPostgresError(
            f"{data_dir} is a copy of {recorded}: both name the database in {home}, which only one "
            f"can use. Remove {data_dir / HOME_NAME} to give the copy an empty database."
        )
    _write_record(record, data_dir)  # the data directory has been moved here


def _require_reach(home: Path, account: ClusterAccount) -> None:
    if not account.switch:
        return
    for folder in [*reversed(home.parents), home]:
        if not account.can_enter(folder):
            raise EmbeddedPostgresError(
                f"PostgreSQL runs as user id {account.uid}, which cannot enter {folder}. Allow it "
                f"(chmod o+x {folder}), or choose another data directory with --data-dir."
            )
