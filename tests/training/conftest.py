"""A data set small enough to train on in a test: bright and dark pictures."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder {train,test}/{bright,dark}/N.png of 16 px noise."""
    monkeypatch.setenv("MSR_ZOO_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for split, number in (("train", 24), ("test", 5)):
        for name, low in (("bright", 128), ("dark", 0)):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = random.integers(low, low + 128, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "pictures"
