"""A data set small enough to train on in a test, and two processes that share a run."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train

TRAINING = Path(train.__file__).parent


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


@pytest.fixture
def start_two():
    """Start two Python commands as the processes of one run, as torchrun would."""
    started = []

    def start(first, second):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
        paths = os.pathsep.join([str(TRAINING), os.environ.get("PYTHONPATH", "")])
        run = {"PYTHONPATH": paths, "WORLD_SIZE": "2"}
        run |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for rank, command in enumerate((first, second)):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, *map(str, command)]
            started.append(subprocess.Popen(command, env={**os.environ, **run, **place}))
        return started[-2:]

    yield start
    for process in started:
        process.kill()
        process.wait()
