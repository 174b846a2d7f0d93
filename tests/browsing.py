"""A browser for tests of the viewer's page: Debian's chromium, driven by Playwright; needs both, and CI has both."""

import contextlib
import os
from urllib.parse import parse_qs, urlsplit

import pytest

from viewer import CHROMIUM


def require_browser():
    """Skip what needs a browser where there is none; in CI that is a failure.

    Returns:
        Playwright's synchronous interface.
    """
    for name in ("nicegui", "playwright"):
        if not os.environ.get("CI"):
            pytest.importorskip(name, reason=f"The page's tests must have {name}: pip install 'satmask[view,dev]'.")
    if CHROMIUM is None:
        message = "The page's tests must have a browser: apt-get install chromium."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    return sync_playwright


@contextlib.contextmanager
def browsing(sync_playwright):
    """A browser that is open."""
    with sync_playwright() as driver:
        # As root, which CI is, chromium runs only without its sandbox.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Tab:
    """A tab, and what went wrong in it."""

    def __init__(self, browser, **settings):
        self.context = browser.new_context(
            **{"viewport": {"width": 1200, "height": 800}, "reduced_motion": "reduce"} | settings
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.problems, self.hosts = [], set()
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console", lambda message: message.type in {"error", "warning"} and self.problems.append(message.text)
        )
        self.page.on("dialog", lambda dialog: (self.problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on(
            "request",
            lambda request: self.hosts.add(request.url.split("/")[2] if "//" in request.url else request.url[:5]),
        )

    def open(self, address):
        """Open an address, and wait for the first tile."""
        self.page.goto(address)
        self.page.locator("img.leaflet-tile-loaded").first.wait_for()
        return self.page

    def close(self):
        """Close the tab."""
        self.context.close()


def address(page):
    """What the address says of the view."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def layer(page, place, kind):
    """The tiles of a layer that are on the map."""
    return page.locator(f'img.leaflet-tile[src*="{place.first(kind).id}"]')


def until(page, condition, seconds=15):
    """Wait for something to come true."""
    for _ in range(20 * seconds):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError(page.locator("body").inner_text())


def hold(page, name):
    """Give a slider the keyboard's focus."""
    page.get_by_label(name).locator("[tabindex='0']").first.focus()


def middle(page):
    """The middle of the map, on the screen."""
    box = page.locator(".satmask-map").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
