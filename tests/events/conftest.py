"""Where the real recordings are, and what a test does where they are not."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recordings and pictures that tests marked ``data`` read."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("MSR_ZOO_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        reason = f"no data at {folder}; set MSR_ZOO_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
