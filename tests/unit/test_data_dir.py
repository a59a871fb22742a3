"""The data directory: its permissions under any umask, and the warnings about wider ones."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from server.keys.key_files import SecretsError, create_private_file, exposure, read_private_file
from server.refusal import StartupRefused
from server.settings.data_dir import concerns, make_data_dir

ROOT = os.geteuid() == 0
OWN = 0o711 if ROOT else 0o700
ANOTHER = 12_345
UMASKS = [0o000, 0o022, 0o027, 0o077, 0o777]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=UMASKS, ids="{:03o}".format)
def umask(request: pytest.FixtureRequest) -> object:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_created_files_have_their_mode_under_any_umask(tmp_path: Path, umask: int) -> None:
    made = make_data_dir(tmp_path / "new" / "a" / "b")
    assert mode_of(made) == OWN
    for parent in (made.parent, made.parent.parent):
        assert not mode_of(parent) & 0o022, "others may not put another directory there"
        assert mode_of(parent) & OWN == OWN
    create_private_file(made / "key", b"k")
    assert mode_of(made / "key") == 0o600


def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    make_data_dir(tmp_path)
    assert mode_of(tmp_path) == 0o750


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/dev/null/x", "/dev/null is not a directory"),
        ("/dev/null", "/dev/null is not a directory"),
        ("/proc/none/x", "No such file"),
        ("~no-such-user-of-quire/x", "unknown user"),
        ("/tmp/" + "x" * 300, "File name too long"),
    ],
)
def test_a_directory_that_cannot_be_made_is_explained(path: str, reason: str) -> None:
    with pytest.raises(StartupRefused) as caught:
        make_data_dir(Path(path))
    assert reason in str(caught.value)
    assert "QUIRE_DATA_DIR" in str(caught.value)


def test_links_that_lead_nowhere_are_explained(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone").symlink_to("/nowhere-of-quire/x")
    with pytest.raises(StartupRefused, match="loop"):
        make_data_dir(tmp_path / "loop" / "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupRefused, match="file is not a directory"):
        make_data_dir(tmp_path / "file" / "a" / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "gone", "loop"]


def test_nothing_is_left_where_a_directory_could_not_be_made(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused):
        make_data_dir(tmp_path / "a" / "b" / ("x" * 300))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o770, 0o777, 0o2770])
def test_a_wider_directory_is_reported_with_the_command(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    ((what, command),) = concerns(tmp_path)
    assert f"mode {mode:04o}" in what
    subprocess.run(["sh", "-c", command], check=True)
    assert concerns(tmp_path) == []


@pytest.mark.parametrize("mode", [0o440, 0o400, 0o600])
def test_a_key_file_that_only_its_owner_and_our_group_read_is_taken(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"k")
    path.chmod(mode)
    assert read_private_file(path) == b"k"


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o450, 0o441, 0o640, 0o644, 0o602, 0o666])
def test_a_key_file_that_is_wider_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"k")
    path.chmod(mode)
    with pytest.raises(SecretsError, match="chmod 600") as caught:
        read_private_file(path)
    subprocess.run(["sh", "-c", str(caught.value).rpartition("with: ")[2]], check=True)
    assert read_private_file(path) == b"k"


def status(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 0, 0, 1, uid, gid, 1, 0, 0, 0))


def test_the_groups_that_may_read_a_key() -> None:
    ours, theirs = os.getegid(), max(os.getgroups(), default=0) + ANOTHER
    assert exposure(status(0o440, ANOTHER, ours)) is None
    assert exposure(status(0o640, ANOTHER, ours)) is None, "what fsGroup makes of 0600"
    assert exposure(status(0o640, os.geteuid(), ours), read_only_volume=True) is None
    assert "which this process is not in" in str(exposure(status(0o440, os.geteuid(), theirs)))
    assert exposure(status(0o660, ANOTHER, ours)) is not None


def test_an_empty_key_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for content in (b"", b"\n", b"  \n"):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(SecretsError, match=r"is empty.*backup"):
            read_private_file(path)
        assert path.read_bytes() == content


class TestAsRoot:
    """Tests that need root."""

    __test__ = ROOT

    def test_a_directory_of_another_user_is_reported_with_the_command(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o700)
        os.chown(tmp_path, ANOTHER, ANOTHER)
        ((what, command),) = concerns(tmp_path)
        assert f"user {ANOTHER}" in what
        assert command == f"chown root {tmp_path}, or start the server as {ANOTHER}"

    @pytest.mark.parametrize(("group", "taken"), [(ANOTHER, True), (ANOTHER + 1, False)])
    def test_a_key_file_of_root_for_the_group_of_the_server(
        self, session_dir: Path, group: int, taken: bool
    ) -> None:
        """As Kubernetes mounts a secret: owned by root, mode 0440, with the group of fsGroup."""
        path = session_dir / f"secret-{group}"
        path.write_bytes(b"k")
        os.chown(path, 0, ANOTHER)
        path.chmod(0o440)
        done = subprocess.run(
            [sys.executable, "-c", READ_AS_SERVER, str(path), str(group)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is taken, done.stderr
        assert ("cannot be read" in done.stderr) is not taken


READ_AS_SERVER = """
import os, sys
from pathlib import Path
from server.keys.key_files import read_private_file
os.setgroups([int(sys.argv[2])])
os.setgid(54321)
os.setuid(54321)
read_private_file(Path(sys.argv[1]))
"""
