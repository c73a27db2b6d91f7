"""A server of the page in a process of its own, and a browser that visits it.

Where gradio or Chromium is absent, these tests are skipped with the reason; with CI=true they fail.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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


class Server:
    """`msr-zoo app` on a port of its choice."""

    def __init__(self, folder: Path) -> None:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        env |= {"GRADIO_TEMP_DIR": str(folder), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        env.pop("MSR_ZOO_MIRROR", None)
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "msr_zoo_cli", "app"],
            env=env,
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        self.lines.extend(self.process.stdout)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def address(self) -> str:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"http://127\.0\.0\.1:\d+", self.log):
                return found[0]
            time.sleep(0.1)
        pytest.fail(f"the server did not start:\n{self.log}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process.stdout.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if importlib.util.find_spec("gradio") is None:
        absent("gradio is not installed: pip install '.[app]'")
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
