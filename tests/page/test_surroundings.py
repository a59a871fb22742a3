"""The page in its surroundings: other browsers, no network, a keyboard, paper, large bundles."""

from __future__ import annotations

import base64
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ledger.evidence.page import verify_page
from tests.support.browser import ELSEWHERE, Browser
from tests.support.evidence import scene
from tests.support.forged_bundles import BUNDLE, PINS
from tests.support.offline_page import OfflinePage
from tests.support.serving import Server

pytestmark = pytest.mark.xdist_group("browser")
MANY = 10_000
TASK_MS_MAX = 1_500
"""The longest task that may block the page, on a machine with other load."""


def test_the_page_as_served_by_the_server(
    shared_server: Server, browser_window: Browser, offline_page: OfflinePage
) -> None:
    browser_window.open(f"{shared_server.url}/verify")
    offline_page.trust(PINS)
    offline_page.choose(BUNDLE)
    display = offline_page.display()
    assert (display.outcome, display.headline) == ("verified", "Verified")
    refused = [line for line in browser_window.console() if "favicon" not in line]
    assert refused == []


@contextmanager
def plain_http(body: bytes) -> Iterator[int]:
    """Serve the page over HTTP; yields the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_browser_that_withholds_its_cryptography(browser_window: Browser) -> None:
    with plain_http(verify_page()) as port:
        browser_window.open(f"http://{ELSEWHERE}:{port}/")
        assert browser_window.run("return [isSecureContext, typeof crypto.subtle]") == [
            False,
            "undefined",
        ]
        assert (
            browser_window.run("return document.getElementById('main').dataset.outcome")
            == "no-crypto"
        )
        assert "save this page and open the file" in browser_window.run(
            "return document.body.innerText"
        )
        assert browser_window.run("return document.getElementById('bundle-file').disabled")


@pytest.mark.parametrize(
    ("missing", "check"), [("ML-DSA-44", "pq_signature"), ("Ed25519", "classical_signature")]
)
def test_a_browser_that_lacks_an_algorithm(
    offline_page: OfflinePage, missing: str, check: str
) -> None:
    # The tests' browser has both algorithms, so its own are removed.
    offline_page.window.run(
        "const whole = crypto.subtle.importKey.bind(crypto.subtle), missing = arguments[0];"
        "crypto.subtle.importKey = (format, key, algorithm, ...rest) => algorithm.name === missing"
        "  ? Promise.reject(new DOMException('no', 'NotSupportedError'))"
        "  : whole(format, key, algorithm, ...rest)",
        missing,
    )
    offline_page.trust(PINS)
    offline_page.choose(BUNDLE)
    display = offline_page.display()
    assert (display.outcome, display.headline) == ("incomplete", "Incomplete")
    assert (display.answers[check], display.results[check]) == ("not_checked", "– not checked here")
    assert f"this browser has no {missing}" in display.why[check]
    others = {"pq_signature", "classical_signature"} - {check}
    assert [display.answers[other] for other in others] == ["true"]


def test_it_reaches_no_network(offline_page: OfflinePage) -> None:
    window = offline_page.window
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        refused = window.run(
            "const url = arguments[0], refused = [];"
            "const ways = { fetch: () => fetch(url), beacon: () => { if (!navigator.sendBeacon(url)) throw 0; },"
            "  worker: () => new Promise((_, no) => { new Worker(url).onerror = no; }),"
            "  image: () => new Promise((_, no) => { const image = new Image(); image.onerror = no; image.src = url; }),"
            "  socket: () => new Promise((_, no) => { new WebSocket(url.replace('http', 'ws')).onerror = no; }) };"
            "for (const [name, way] of Object.entries(ways)) try { await way(); } catch { refused.push(name); }"
            "return refused",
            url,
        )
        assert {"fetch", "image", "worker", "socket"} <= set(refused)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_ten_thousand_entries_do_not_freeze_the_page(offline_page: OfflinePage) -> None:
    window = offline_page.window
    window.run(
        "window.longest = 0; window.shares = new Set();"
        "new PerformanceObserver(list => list.getEntries().forEach("
        "  task => longest = Math.max(longest, task.duration))).observe({ entryTypes: ['longtask'] });"
        "setInterval(() => shares.add(document.getElementById('progress').value), 20)"
    )
    offline_page.trust(PINS)
    offline_page.choose(scene(MANY).bundle())
    assert offline_page.display().outcome == "verified"
    assert window.run("return document.querySelectorAll('.entry').length") == 200
    longest, shares = window.run("return [longest, shares.size]")
    assert longest < TASK_MS_MAX
    assert shares > 5


def test_the_whole_page_works_by_keyboard(offline_page: OfflinePage) -> None:
    window = offline_page.window
    offline_page.check(BUNDLE)
    # The verdict has the focus, so that a screen reader says it first.
    focus = "document.activeElement"
    assert window.run(f"return {focus}.id") == "headline"
    window.press("\ue004")  # Tab
    assert window.run(f"return {focus}.tagName") == "SUMMARY"
    window.press("\ue007")  # Enter
    window.wait("document.querySelector('.entry[open] .inside')")
    window.run("document.activeElement.blur(); document.body.focus()")
    reached = window.run(
        "return [...document.querySelectorAll('input, button, summary')].every(one => one.tabIndex === 0)"
    )
    assert reached


def test_the_accessibility_tree_names_everything(offline_page: OfflinePage) -> None:
    offline_page.check(BUNDLE)
    tree = offline_page.window.devtools("Accessibility.getFullAXTree")["nodes"]
    found = {
        (node["role"]["value"], node.get("name", {}).get("value"))
        for node in tree
        if not node["ignored"]
    }
    assert ("heading", "Incomplete") in found
    assert ("table", "What was checked") in found
    assert ("rowheader", "Files and entries are unaltered hashes") in found
    assert ("columnheader", "Result") in found
    assert ("navigation", "Pages of entries") in found
    unnamed = {
        role for role, name in found if role in {"button", "textbox", "progressbar"} and not name
    }
    assert unnamed == set()
    live = offline_page.window.run(
        "return document.getElementById('verdict').getAttribute('aria-live')"
    )
    assert live == "polite"


def luminance(color: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(offline_page: OfflinePage, scheme: str) -> None:
    window = offline_page.window
    window.devtools(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    tampered = BUNDLE.replace(b'"outcome":"success"', b'"outcome":"failure"', 1)
    seen = set()
    for bundle in (BUNDLE, tampered):
        offline_page.check(bundle)
        seen |= {tuple(pair) for pair in window.run(
            "const solid = node => { for (; node; node = node.parentElement) {"
            "  const color = getComputedStyle(node).backgroundColor;"
            "  if (!/^rgba.*, 0\\)$/.test(color)) return color; } return 'rgb(255, 255, 255)'; };"
            "return [...document.querySelectorAll('body *')].filter(node => node.checkVisibility()"
            "  && [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())"
            "  ).map(node => [getComputedStyle(node).color, solid(node)])"
        )}  # fmt: skip
    window.devtools("Emulation.setEmulatedMedia", features=[])
    assert len(seen) > 10
    for ink, paper in seen:
        dark, light = sorted((luminance(ink), luminance(paper)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, ink, paper)


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_it_fits_every_width(offline_page: OfflinePage, width: int) -> None:
    window = offline_page.window
    window.devtools(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=800,
        deviceScaleFactor=1,
        mobile=False,
    )
    offline_page.check(BUNDLE)
    window.run("document.querySelector('.entry summary').click()")
    window.wait("document.querySelector('.inside')")
    overflow = window.run(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    window.devtools("Emulation.clearDeviceMetricsOverride")
    assert overflow == 0


def test_it_prints(offline_page: OfflinePage) -> None:
    offline_page.check(BUNDLE)
    paper = base64.b64decode(offline_page.window.devtools("Page.printToPDF")["data"])
    assert paper.startswith(b"%PDF-")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 4
