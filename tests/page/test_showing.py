"""The page shows an auditor the verdict at once and every entry, and runs nothing from a bundle."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from ledger.evidence.verdict import CHECKS
from tests.support.bundle_corpus import FOLDER
from tests.support.evidence import forge, members_of
from tests.support.forged_bundles import BUNDLE, LEAVES, MEMBERS, PINS, SCENE
from tests.support.offline_page import OfflinePage
from tests.support.signing import log_keys

pytestmark = pytest.mark.xdist_group("browser")
TAMPERED = BUNDLE.replace(b'"outcome":"success"', b'"outcome":"failure"', 1)
STAMPED = (FOLDER / "sealed.zip").read_bytes()


def test_before_a_bundle_is_chosen(offline_page: OfflinePage) -> None:
    shown = offline_page.window.run("return document.body.innerText")
    assert "Drop the bundle" in shown
    assert "Nothing is uploaded" in shown
    assert "What was checked" not in shown
    assert offline_page.window.console() == []


def test_a_good_bundle_with_trusted_keys(offline_page: OfflinePage) -> None:
    display = offline_page.check(STAMPED, (FOLDER / "keys.json").read_bytes())
    assert (display.outcome, display.headline) == ("verified", "Verified")
    assert display.warnings == display.causes == ""
    assert tuple(display.answers) == CHECKS
    here = {check for check, result in display.results.items() if result == "– not checked here"}
    assert here == {"external_time", "witnesses"}
    assert "quire-verify --tsa-ca" in display.why["external_time"]
    assert "quire-verify --policy" in display.why["witnesses"]
    assert display.results["signatures"] == "– not checked"
    assert {
        display.results[check] for check in display.answers if display.answers[check] == "true"
    } == {"✓ true"}
    assert offline_page.window.console() == []


def test_a_good_bundle_with_only_its_own_keys(offline_page: OfflinePage) -> None:
    display = offline_page.check(BUNDLE)
    assert (display.outcome, display.headline) == ("incomplete", "Incomplete")
    assert "this was not checked" in display.meaning
    assert "The keys are the bundle's own" in display.causes
    assert f"ask the operator of {SCENE.keys.public().origin}" in display.causes
    assert SCENE.keys.public().newest.digest in display.causes


def test_a_tampered_bundle(offline_page: OfflinePage) -> None:
    display = offline_page.check(TAMPERED, PINS)
    assert (display.outcome, display.headline) == ("refuted", "Refuted")
    assert "Do not rely on it" in display.meaning
    assert "Something in the bundle was altered" in display.causes
    assert display.results["hashes"] == "✕ false"
    assert "leaves/000000.ndjson is not what the manifest says" in display.why["hashes"]
    faulty = offline_page.window.run(
        "return [...document.querySelectorAll('.entry.faulty')].map(row => row.dataset.seq)"
    )
    assert faulty == ["0", "1"]


def test_a_file_that_is_not_a_bundle(offline_page: OfflinePage) -> None:
    display = offline_page.check(BUNDLE[:-1], PINS)
    assert (display.outcome, display.headline) == ("unreadable", "Not readable")
    assert "does not end as an evidence bundle does" in display.causes
    assert not offline_page.window.run(
        "return document.getElementById('checked').checkVisibility()"
    )


def test_a_bundle_without_some_parts(offline_page: OfflinePage) -> None:
    display = offline_page.check((FOLDER / "without-anchor.zip").read_bytes(), PINS)
    assert (display.outcome, display.headline) == ("incomplete", "Incomplete")
    assert display.results["anchors"] == "– not checked"
    assert "The bundle has no anchor" in display.causes


def test_keys_chosen_pasted_wrong_and_removed(offline_page: OfflinePage) -> None:
    window = offline_page.window
    assert offline_page.check(BUNDLE, PINS).headline == "Verified"
    window.run("document.getElementById('trust-drop').click()")
    window.wait("document.getElementById('headline').innerText === 'Incomplete'")
    paste = (
        "document.getElementById('trust-paste').open = true;"
        "document.getElementById('trust-text').value = arguments[0];"
        "document.getElementById('trust-use').click()"
    )
    window.run(paste, PINS.decode())
    window.wait("document.getElementById('headline').innerText === 'Verified'")
    window.run(paste, log_keys(2).public().pins().document().decode())
    window.wait("document.getElementById('headline').innerText === 'Refuted'")
    assert "can't be believed" in offline_page.display().why["classical_signature"]
    window.run(paste, "<b>nothing</b>")
    window.wait("!document.getElementById('trust-fault').hidden")
    fault = window.run("return document.getElementById('trust-fault').innerText")
    assert "No keys could be read from what you pasted" in fault
    assert offline_page.display().headline == "Incomplete"


def test_a_bundle_and_keys_that_are_dropped_together(offline_page: OfflinePage) -> None:
    offline_page.window.run(
        "const drop = new DataTransfer();"
        "for (const [name, data] of arguments[0]) drop.items.add("
        "  new File([Uint8Array.from(atob(data), char => char.charCodeAt(0))], name));"
        "document.body.dispatchEvent(new DragEvent('dragover', { dataTransfer: drop, bubbles: true }));"
        "document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: drop, bubbles: true }))",
        [["evidence.zip", base64.b64encode(BUNDLE).decode()],
         ["keys.json", base64.b64encode(PINS).decode()]],
    )  # fmt: skip
    assert offline_page.display().headline == "Verified"


def opened(page: OfflinePage, seq: int) -> str:
    """Open an entry; returns the text that it shows."""
    row = f"document.querySelector('.entry[data-seq=\"{seq}\"]')"
    page.window.run(f"{row}.querySelector('summary').click()")
    page.window.wait(f"{row}.querySelector('.inside')")
    text: str = page.window.run(f"return {row}.querySelector('.inside').innerText")
    return text


def test_an_opened_entry_shows_the_recorded_event(offline_page: OfflinePage) -> None:
    names = {f"ref:{'actor':A<22}": "Ada Lovelace"}
    offline_page.check(replace(SCENE, names=names).bundle(), PINS)
    disclosed = opened(offline_page, 0)
    assert '{"action":"approve","number":0}' in disclosed
    assert SCENE.entries[0].leaf.decode() in disclosed
    assert "the server states the name: Ada Lovelace" in disclosed
    assert "no key for it was disclosed" in opened(offline_page, 1)
    assert "The content was erased" in opened(offline_page, 2)
    assert "nothing proves them" in offline_page.display().warnings


def test_many_entries_are_shown_in_pages(offline_page: OfflinePage) -> None:
    window = offline_page.window
    offline_page.check((FOLDER / "two-batches.zip").read_bytes())
    shown = "[...document.querySelectorAll('.entry')].map(row => Number(row.dataset.seq))"
    assert window.run(f"return {shown}") == list(range(100, 300))
    window.run("document.getElementById('later').click()")
    window.wait(f"{shown}[0] === 300")
    assert "201 to 400 of 1,050" in window.run(
        "return document.getElementById('pages-said').innerText"
    )
    for _ in range(4):
        window.run("document.getElementById('later').click()")
        window.run("await new Promise(resolve => setTimeout(resolve, 300))")
    window.wait(f"{shown}.at(-1) === 1149")
    assert window.run("return document.getElementById('later').disabled")


def test_another_file_chosen_while_one_is_checked(offline_page: OfflinePage) -> None:
    offline_page.choose((FOLDER / "two-batches.zip").read_bytes(), "large.zip")
    offline_page.choose(TAMPERED, "small.zip")
    assert offline_page.display().headline == "Refuted"
    offline_page.window.run("await new Promise(resolve => setTimeout(resolve, 500))")
    assert offline_page.display().headline == "Refuted"
    assert "small.zip" in offline_page.window.run(
        "return document.getElementById('facts').innerText"
    )


HELD = """
const slice = Blob.prototype.slice;
Blob.prototype.slice = function (...range) {
  const part = slice.apply(this, range), read = part.arrayBuffer.bind(part);
  part.arrayBuffer = async () => { await window.mayRead; return read(); };
  return part;
};
window.mayRead = new Promise(resolve => { window.letRead = resolve; });
"""


def test_the_answer_about_a_file_goes_as_soon_as_another_is_chosen(
    offline_page: OfflinePage,
) -> None:
    offline_page.check(SCENE.bundle(), PINS)
    window = offline_page.window
    window.run(HELD)  # reading the chosen file takes its time
    offline_page.choose(TAMPERED, "small.zip")
    assert window.run("return document.getElementById('main').dataset.outcome") == "working"
    assert window.run("return document.getElementById('result').hidden")
    window.run("window.letRead()")
    assert offline_page.display().headline == "Refuted"


EVIL = "<img src=x onerror=pwned()><script>pwned()</script>\u202egpj.exe"
INJECTED = """
return { scripts: document.scripts.length, images: document.images.length,
         others: document.querySelectorAll('main a, main iframe, main svg, main img').length }
"""


def evil_bundle() -> bytes:
    """A bundle in which every string under its maker's control is markup."""
    line = MEMBERS[LEAVES].splitlines(keepends=True)
    evil = line[0].replace(b"invoice.approved", EVIL.encode()).replace(b'"success"', b'"</td><td>"')
    names = {"ref:" + "A" * 22: EVIL, f"ref:{'actor':A<22}": EVIL}
    bundle = replace(SCENE, names=names).bundle()
    return forge(bundle, {LEAVES: b"".join((evil, *line[1:]))})


def test_markup_in_a_bundle_is_shown_and_never_run(offline_page: OfflinePage) -> None:
    name = "<img src=x onerror=pwned()>.zip"
    window = offline_page.window
    window.run("window.before = document.scripts.length")
    display = offline_page.check(evil_bundle(), name=name)
    assert display.outcome == "refuted"
    shown = window.run("return document.getElementById('entries').innerText")
    assert "<img src=x onerror=pwned()><script>pwned()</script>⟨U+202E⟩gpj.exe" in shown
    inside = opened(offline_page, 0)
    assert "<script>pwned()</script>⟨U+202E⟩" in inside
    assert window.run(INJECTED) == {"scripts": 2, "images": 0, "others": 0}
    assert name in window.run("return document.getElementById('facts').innerText")
    assert window.console() == []


def test_text_payloads_are_shown_as_text(offline_page: OfflinePage) -> None:
    shown = offline_page.window.run(
        "return arguments[0].map(data => readable(base64(data, 'it')))",
        [base64.b64encode(data).decode() for data in (f"{EVIL}\n\0".encode(), b"\x01\xff" * 17)],
    )
    assert shown[0] == EVIL.replace("\u202e", "⟨U+202E⟩") + "\n⟨U+0000⟩"
    assert shown[1].splitlines() == [
        "0000000  " + "01 ff " * 7 + "01 ff",
        "0000010  " + "01 ff " * 7 + "01 ff",
        "0000020  01 ff",
    ]


def test_markup_in_the_names_of_members_and_in_keys(offline_page: OfflinePage) -> None:
    held = members_of(BUNDLE)
    window = offline_page.window
    for bundle in (
        BUNDLE.replace(b"README.txt", b"<b>hi</b>x"),
        forge(BUNDLE, {}, org="acme", origin="<img src=x onerror=pwned()>"),
        forge(BUNDLE, {"log-keys.json": held["log-keys.json"].replace(b"lk-", b"<i>")}),
    ):
        offline_page.check(bundle)
        assert window.run(INJECTED) == {"scripts": 2, "images": 0, "others": 0}
    assert window.console() == []
