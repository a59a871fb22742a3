"""A repacked or wrapped bundle is recognised, and the message says which file to ask for."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from tests.support.evidence import judge, members_of, scene

BUNDLE = scene().bundle()


def zipped(
    bundle: bytes, prefix: str = "", compression: int = zipfile.ZIP_DEFLATED, comment: bytes = b""
) -> bytes:
    """The members of a bundle as another zip program packs them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members_of(bundle).items():
            archive.writestr(prefix + name, data)
        archive.comment = comment
    return buffer.getvalue()


def _commented() -> bytes:
    buffer = io.BytesIO(BUNDLE)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"scanned"
    return buffer.getvalue()


PACKED: dict[str, Callable[[], bytes]] = {
    "deflated": lambda: zipped(BUNDLE),
    "stored": lambda: zipped(BUNDLE, compression=zipfile.ZIP_STORED),
    "in a folder": lambda: zipped(BUNDLE, "evidence/"),
    "with a comment": lambda: zipped(BUNDLE, comment=b"scanned by the mail gateway"),
    "with something behind it": lambda: zipped(BUNDLE) + b"footer",
    "a comment on the bundle itself": _commented,
}


@pytest.mark.parametrize("form", PACKED)
def test_a_repacked_bundle(form: str) -> None:
    judgement = judge(PACKED[form]())
    assert (judgement.verdict, judgement.exit_code) == (None, 2)
    assert judgement.unreadable is not None
    assert "unpacked and packed again" in judgement.unreadable
    assert "Ask whoever gave it to you for the original file" in judgement.unreadable


def test_a_bundle_inside_a_zip() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("evidence.zip", BUNDLE)
    assert "evidence.zip is in it" in (judge(buffer.getvalue()).unreadable or "")


def test_a_bundle_inside_another_archive() -> None:
    assert "this is a gzip file" in (judge(gzip.compress(BUNDLE)).unreadable or "")


def test_a_cut_bundle_is_not_reported_as_repacked() -> None:
    for end in (len(BUNDLE) - 1, len(BUNDLE) // 2, 30, 1, 0):
        said = judge(BUNDLE[:end]).unreadable or ""
        assert said
        assert "packed again" not in said


def test_other_zips_are_not_reported_as_bundles() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("holiday.jpg", b"x")
    assert "no member of a bundle" in (judge(buffer.getvalue()).unreadable or "") or "header" in (
        judge(buffer.getvalue()).unreadable or ""
    )


def test_a_bundle_in_a_tar_archive() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("evidence.zip")
        info.size = len(BUNDLE)
        archive.addfile(info, io.BytesIO(BUNDLE))
    assert "this is a tar archive" in (judge(buffer.getvalue()).unreadable or "")
