"""`quire keys signing` on real keyring files: add, activate, list."""

import json
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import Result

from ledger.keys import MAX_KEYS, SigningKey, SigningKeyring, dump_keyring, parse_keyring
from server.cli.base.private_file import replace_private_file
from tests.cli.commands import invoke, run

SECRET = "a secret of the environment, 32 bytes or more"
FIRST = SigningKeyring([SigningKey("old-0", b"0" * 32), SigningKey("old-1", b"1" * 32)], ["old-1"])


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    path = tmp_path / "here" / "signing-keys.json"
    path.parent.mkdir()
    replace_private_file(path, dump_keyring(FIRST))
    return path


def signing(keyring: Path, *arguments: str) -> Result:
    return invoke("keys", "signing", *arguments, "--data-dir", str(keyring.parent))


def ring_in(keyring: Path) -> SigningKeyring:
    return parse_keyring(keyring.read_bytes())


def secrets_of(ring: SigningKeyring) -> dict[str, bytes]:
    return {key.key_id: key.secret for key in ring.keys()}


def test_a_key_is_added_then_activated(keyring: Path) -> None:
    added = signing(keyring, "add", "--json")
    assert added.exit_code == 0
    ring = ring_in(keyring)
    (new,) = json.loads(added.stdout)["added"]
    assert ring.ids() == ["old-0", "old-1", new]
    assert ring.active.key_id == "old-1", "it does not sign yet"
    assert len(ring.get(new).secret) == 32
    assert ring.get(new).secret.hex() not in added.output
    activated = signing(keyring, "activate")
    assert activated.stdout == f"Signing key {new} is active.\n"
    assert ring_in(keyring).active.key_id == new
    assert secrets_of(ring_in(keyring)) == secrets_of(ring)
    assert stat.S_IMODE(keyring.stat().st_mode) == 0o600
    assert list(keyring.parent.iterdir()) == [keyring]
    again = signing(keyring, "activate", new)
    assert (again.exit_code, again.stdout) == (0, f"Signing key {new} was active already.\n")


def test_what_is_printed_after_adding_says_what_to_do_next(keyring: Path) -> None:
    done = signing(keyring, "add")
    new = ring_in(keyring).ids()[-1]
    assert done.stdout == f"Signing key {new} is added; old-1 still signs.\n"
    assert "quire keys signing add --import FILE" in done.stderr
    assert f"quire keys signing activate {new}" in " ".join(done.stderr.split())


def test_an_older_key_can_sign_again(keyring: Path) -> None:
    assert signing(keyring, "activate", "old-0").exit_code == 0
    assert ring_in(keyring).active.key_id == "old-0"
    assert json.loads(signing(keyring, "activate", "--json").stdout)["active"] == "old-1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("activate",), "newer than the active one, old-1"),
        (("activate", "k-none"), "'k-none' is not in the keyring"),
    ],
)
def test_a_key_that_can_t_be_activated(
    keyring: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = keyring.read_bytes()
    refused = signing(keyring, *arguments)
    assert refused.exit_code == 2
    assert message in " ".join(refused.stderr.split())
    assert keyring.read_bytes() == before


def test_the_keys_of_another_machine_are_added_and_this_one_s_key_still_signs(
    keyring: Path, tmp_path: Path
) -> None:
    other = tmp_path / "there" / "signing-keys.json"
    other.parent.mkdir()
    shutil.copy2(keyring, other)
    assert signing(other, "add").exit_code == 0
    assert signing(other, "activate").exit_code == 0
    new = ring_in(other).active.key_id
    added = signing(keyring, "add", "--import", str(other))
    assert added.stdout == f"Signing key {new} is added; old-1 still signs.\n"
    assert secrets_of(ring_in(keyring)) == secrets_of(ring_in(other))
    assert ring_in(keyring).active.key_id == "old-1"
    inode = keyring.stat().st_ino
    again = signing(keyring, "add", "--import", str(other))
    assert again.exit_code == 0
    assert "has all keys" in again.stdout
    assert keyring.stat().st_ino == inode
    shown = [signing(where, "list", "--json").stdout.splitlines() for where in (keyring, other)]
    assert [json.loads(line)["fingerprint"] for line in shown[0]] == [
        json.loads(line)["fingerprint"] for line in shown[1]
    ]
    piped = run("keys", "signing", "add", "--import", "-", "--data-dir", str(keyring.parent),
                stdin=other.read_bytes())  # fmt: skip
    assert piped.returncode == 0


def test_keys_are_listed_without_their_secrets(keyring: Path) -> None:
    listed = signing(keyring, "list")
    assert [line.split()[:2] for line in listed.stdout.splitlines()[2:]] == [
        ["old-0", "no"],
        ["old-1", "yes"],
    ]
    assert FIRST.active.fingerprint in listed.stdout


FOREIGN = SigningKeyring([SigningKey("k-9", b"9" * 32)], ["k-9"])
OTHER_SECRET = SigningKeyring([FIRST.get("old-0"), SigningKey("old-1", b"x" * 32)], ["old-0"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dump_keyring(FOREIGN), "of another database"),
        (dump_keyring(OTHER_SECRET), "'old-1' with another secret"),
        (b"{", "must be JSON of this form"),
        (b"", "empty"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_can_t_be_imported(
    keyring: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    other = tmp_path / "other.json"
    if content is not None:
        replace_private_file(other, content)
    before = keyring.read_bytes()
    refused = signing(keyring, "add", "--import", str(other))
    assert refused.exit_code == 2
    assert message in " ".join(refused.stderr.split())
    assert keyring.read_bytes() == before


def test_an_imported_file_that_others_may_read_is_refused(keyring: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(dump_keyring(FIRST))
    other.chmod(0o644)
    refused = signing(keyring, "add", "--import", str(other))
    assert refused.exit_code == 2
    assert "chmod 600" in refused.stderr


def test_a_full_keyring_is_not_changed(keyring: Path) -> None:
    keys = [SigningKey(f"k-{number}", bytes(32)) for number in range(MAX_KEYS)]
    replace_private_file(keyring, dump_keyring(SigningKeyring(keys, ["k-0"])))
    refused = signing(keyring, "add")
    assert refused.exit_code == 2
    assert f"at most {MAX_KEYS} keys" in refused.stderr


def test_a_key_of_the_environment_goes_into_the_file_and_still_signs(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    settings = {"QUIRE_SIGNING_KEYRING": str(path), "QUIRE_AUDIT_SECRET_KEY": SECRET}
    assert invoke("keys", "signing", "add", settings=settings).exit_code == 0
    ring = ring_in(path)
    assert ring.active.secret == SECRET.encode()
    assert len(ring.ids()) == 2
    assert invoke("keys", "signing", "activate", settings=settings).exit_code == 0
    assert ring_in(path).active.key_id == ring.ids()[1]


def test_commands_at_once_lose_no_key_and_leave_one_active(keyring: Path) -> None:
    wanted = [("add",)] * 3 + [("activate", "old-0"), ("activate", "old-1"), ("activate", "old-0")]
    place = ("--json", "--data-dir", str(keyring.parent))
    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(lambda one: run("keys", "signing", *one, *place), wanted))
    assert [each.returncode for each in done] == [0] * 6
    made = {json.loads(each.stdout)["added"][0] for each in done[:3]}
    ring = ring_in(keyring)  # exactly one is active, or it could not be parsed
    assert len(made) == 3
    assert set(ring.ids()) == {"old-0", "old-1", *made}
    assert ring.active.key_id in {"old-0", "old-1"}


KILLED = """
import os, signal, sys
from pathlib import Path
from server.cli.main import main

left = int(sys.argv[1])

def counted(owner, name):
    work = getattr(owner, name)
    def step(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments, **options)
    setattr(owner, name, step)

for name in ("fsync", "fchmod", "chown"):
    counted(os, name)
for name in ("hardlink_to", "unlink", "replace"):
    counted(Path, name)
main(["keys", "signing", *sys.argv[2:]])
"""


@pytest.mark.parametrize("command", [("add",), ("activate", "old-0")])
def test_killed_at_any_step_the_file_is_the_old_one_or_the_new_one(
    keyring: Path, command: tuple[str, ...]
) -> None:
    place = ("--data-dir", str(keyring.parent))
    before, codes = secrets_of(ring_in(keyring)), []
    for steps in range(9):
        arguments = [sys.executable, "-c", KILLED, str(steps), *command, *place]
        codes.append(subprocess.run(arguments, check=False, capture_output=True).returncode)
        ring = ring_in(keyring)
        assert before.items() <= secrets_of(ring).items()
        assert len(ring.ids()) <= len(before) + 1
        assert stat.S_IMODE(keyring.stat().st_mode) == 0o600
        replace_private_file(keyring, dump_keyring(FIRST))
    assert codes[0] == -9
    assert codes[-1] == 0
    assert signing(keyring, *command).exit_code == 0


FULL = """
import resource, signal, sys
from server.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
main(["keys", "signing", *sys.argv[1:]])
"""


def test_on_a_full_disk_nothing_changes(keyring: Path) -> None:
    before = keyring.read_bytes()
    for command in (("add",), ("activate", "old-0")):
        arguments = [*command, "--data-dir", str(keyring.parent)]
        done = subprocess.run(
            [sys.executable, "-c", FULL, *arguments], check=False, capture_output=True, text=True
        )
        assert done.returncode == 2, done.stderr
        assert "File too large" in done.stderr
        assert keyring.read_bytes() == before
        assert list(keyring.parent.iterdir()) == [keyring]
