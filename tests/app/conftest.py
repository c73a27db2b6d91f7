"""A server of the page in a process of its own, and a browser that visits it.

Where gradio or Chromium is absent, these tests are skipped with the reason; with CI=true they fail.
"""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from serving import ROOT, Server

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def absent(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if importlib.util.find_spec("gradio") is None:
        absent("gradio is not installed: pip install '.[app]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MSR_ZOO_MIRROR", raising=False)
        server = Server(tmp_path_factory.mktemp("gradio"))
    server.url = server.address()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def chromium(server):
    if importlib.util.find_spec("playwright") is None:
        absent("playwright is not installed: pip install '.[test]'")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        absent(f"none of {', '.join(CHROMIUM)} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, server):
    """Opens the page; at the end, nothing may have failed, nor been asked of another machine."""
    contexts, wrong = [], []

    def visit(**options):
        context = chromium.new_context(
            **{"viewport": {"width": 1400, "height": 1000}, "accept_downloads": True, **options}
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on(
            "console",
            lambda message: message.type == "error" and wrong.append(f"console: {message.text}"),
        )
        page.on(
            "request",
            lambda request: (
                request.url.startswith((server.url, "data:", "blob:"))
                or wrong.append(f"request: {request.url}")
            ),
        )
        page.goto(server.url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="session")
def screenshots():
    """Where screenshots are kept: MSR_ZOO_SCREENSHOTS, or a folder that git ignores."""
    folder = Path(os.environ.get("MSR_ZOO_SCREENSHOTS", ROOT / "build" / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
