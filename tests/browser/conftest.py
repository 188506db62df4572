"""A gateway's console on a real socket, over a real store filled with records, and a real Chromium that walks it."""

from __future__ import annotations

import os
import shutil

import pytest
from browser.kit import Served, Walker

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def chromium():
    """A Chromium that lives as long as the tests of one file, all of which are synchronous.

    Playwright's synchronous side keeps an event loop running in this thread, so it must end before asynchronous tests.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        why = "no Chromium to test with; install `chromium`"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The console of a gateway with records of two departments, served on a real socket."""
    gateway = Served(tmp_path_factory.mktemp("console"))
    yield gateway
    gateway.close()


@pytest.fixture
def walker(chromium, served):
    """Open a browser of its own: `walker("officer")` is signed in with that key, `walker()` is not signed in.

    At the end of the test nothing may have been asked of another host, broken the pages' policy or opened a dialog.
    """
    open_ = []

    def start(key=None, *, javascript=True):
        made = Walker(chromium, served, javascript=javascript)
        open_.append(made)
        if key is not None:
            made.enter(key)
        return made

    yield start
    for made in open_:
        made.close()
        assert made.trouble() == []
