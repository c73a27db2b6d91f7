"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures and recordings; without it a test is skipped."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("MSR_ZOO_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        reason = f"no data at {folder}; set MSR_ZOO_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
