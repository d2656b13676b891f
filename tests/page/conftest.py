"""A headless Chromium and a server for it; without a Chromium, the page's tests are skipped."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.page.fake_server import FakeState, make_app, serve

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

TIMEOUT_MS = 60_000  # for a machine with other work; what is there is found at once
expect.set_options(timeout=TIMEOUT_MS)


def find_chromium(playwright: Playwright) -> str | None:
    """The system's own, or the one that Playwright brought."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    own = playwright.chromium.executable_path
    return found or (own if Path(own).exists() else None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a file of tests: Playwright's event loop runs as long as it lives, and the tests of
    other files that run in this process start their own."""
    with sync_playwright() as playwright:
        path = find_chromium(playwright)
        if path is None:
            pytest.skip(
                "the page's tests need Chromium: `apt-get install chromium`, or "
                "`.venv/bin/playwright install chromium`"
            )
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def state() -> FakeState:
    return FakeState()


@pytest.fixture
def url(state: FakeState) -> Iterator[str]:
    with serve(make_app(state)) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, opened; it must not write errors to the console or ask for anything elsewhere."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, reduced_motion="reduce", base_url=url
    )
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((url, "blob:")) else problems.append(asked.url),
    )
    page.goto(url)
    page.wait_for_selector(".view:not([hidden]), dialog[open]")
    yield page
    context.close()
    # the browser itself reports refused requests, which some tests provoke
    assert [line for line in problems if "Failed to load resource" not in line] == []
