"""Which URLs open a target, and which are refused with a message on what to write instead."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ledger.archive.targets import open_target
from ledger.errors import ArchiveMisconfigured


@pytest.mark.parametrize(
    ("url", "locked"),
    [
        ("file:///srv/archive", False),
        ("file:///srv/archive?lock=none", False),
        ("file://localhost/srv/my%20archive", False),
        ("s3://quire-archive", True),
        ("s3://quire-archive/", True),
        ("s3://quire-archive/acme/2026", True),
        ("s3://quire-archive/acme?lock=compliance", True),
        ("s3://quire-archive/acme?lock=none", False),
    ],
)
def test_a_url_says_whether_its_target_locks(url: str, locked: bool) -> None:
    target = open_target(url)
    assert target.url == url
    assert target.locked is locked


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "not an archive target"),
        ("/srv/archive", "not an archive target"),
        ("https://bucket/prefix", "not an archive target"),
        ("file:relative", "absolute path"),
        ("file://host/srv/archive", "absolute path"),
        ("file:///", "only for it"),
        ("file:///srv/../etc", "only for it"),
        ("file:///srv/%2e%2e/etc", "only for it"),
        ("file:///srv/a%00b", "absolute path"),
        ("file:///srv/archive?lock=compliance", "a folder can.t lock"),
        ("file:///srv/archive?mode=777", "takes only"),
        ("s3:///prefix", "not a bucket.s name"),
        ("s3://b/prefix", "not a bucket.s name"),
        ("s3://bucket%2fx/prefix", "not a bucket.s name"),
        ("s3://bucket/../x", "not a valid key"),
        ("s3://bucket/a//b", "not a valid key"),
        ("s3://bucket/" + "a/" * 160 + "a", "300 characters"),
        ("s3://bucket/x?lock=governance", "takes only"),
        ("s3://bucket/x?lock=none&lock=none", "takes only"),
        ("s3://bucket:9000/x", "QUIRE_ARCHIVE_S3_ENDPOINT"),
        ("s3://[bucket/x", "can't be read"),
        ("s3://bucket/x#y", "fragment"),
        ("s3://bucket/" + "a" * 1_000, "1000 characters"),
    ],
)
def test_another_url_is_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(ArchiveMisconfigured, match=said):
        open_target(url)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ArchiveMisconfigured, match="AWS_") as refused:
        open_target("s3://user:hunter2@bucket/prefix")
    assert "hunter2" not in str(refused.value)


def test_a_folder_needs_nothing_of_the_server_extra() -> None:
    """Without the S3 client a folder opens, and the error for a bucket names the package to install."""
    code = (
        "import sys\n"
        "sys.modules['aiobotocore'] = sys.modules['botocore'] = sys.modules['aiohttp'] = None\n"
        "from ledger.archive.targets import open_target\n"
        "open_target('file:///srv/archive')\n"
        "try:\n    open_target('s3://quire-archive')\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("ArchiveMisconfigured")
    assert "pip install 'quire-ledger[server]'" in done.stdout
