"""docs/event-camera.md does what it says, on recordings of a simulated camera."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from events import writers

from msr_zoo.events.motion import poses, saccades
from msr_zoo.events.simulate import Sensor, simulate

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "event-camera.md"
BLOCKS = re.findall(r"^```(sh|python) camera\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def drawn(name):
    """A bright ring for a cup, a bright bar for a pen."""
    row, column = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    if name == "cup":
        shape = ((row - 20) ** 2 + (column - 20) ** 2).sqrt().sub(10).abs() < 3
    else:
        shape = ((row - 20).abs() < 3) & ((column - 20).abs() < 16)
    return 0.1 + 0.8 * shape.float()


@pytest.fixture
def folder(tmp_path):
    """The recordings of the page: two classes in two sessions, a second and a half each."""
    for number, (session, name) in enumerate(
        (s, n) for s in ("monday", "tuesday") for n in ("cup", "pen")
    ):
        angle = torch.arange(31) * 2 * math.pi / 5 + number
        offsets = saccades(torch.stack([8 * angle.cos(), 8 * angle.sin()], 1), 4)
        events = simulate(
            drawn(name),
            poses(offsets, (64, 64)),
            duration_us=1_500_000,
            size=(64, 64),
            sensor=Sensor(on_threshold=0.4, off_threshold=0.4),
            seed=number,
        )
        path = tmp_path / "recordings" / session / name / "take1.raw"
        path.parent.mkdir(parents=True)
        path.write_bytes(writers.evt2(events))
    return tmp_path


def test_the_page_has_commands_of_every_kind():
    text = "".join(block for _, block in BLOCKS)
    for command in ("msr-zoo finetune", "msr-zoo predict", "msr_zoo.finetune(", "read_events("):
        assert command in text


@pytest.mark.slow
def test_every_command_of_the_page_works_in_its_order(folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # Fewer epochs, which is all that differs from what the page says.
    shell = f'set -e\nmsr-zoo() {{ "{sys.executable}" -m msr_zoo_cli "$@"; }}\n'
    out = ""
    for language, block in BLOCKS:
        block = block.replace("finetune recordings", "finetune recordings --epochs 2")
        block = block.replace("report=print)", "report=print, changes={'epochs': 2})")
        command = ["bash", "-c", shell + block]
        if language == "python":
            command = [sys.executable, "-W", "error", "-c", block]
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, f"{block}\n{run.stderr}"
        out += run.stdout
    assert "events in 1." in out
    written = {file.name for file in (folder / "my-things").iterdir()}
    assert {"model.safetensors", "config.json", "README.md", "confusion.png"} <= written
    assert "cup" in out
    files = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert len(files) == 2  # those of tuesday
    assert all(set(file["labels"][0]) == {"label", "probability"} for file in files)
